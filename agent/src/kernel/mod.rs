//! The kernel half, from userspace: load it, attach it, read it.
//!
//! Nothing here knows what a record means for a link; that is [`crate::link`]'s.

pub mod btf;
mod error;
pub mod hooks;
mod inventory;
mod iterators;
mod load;
mod log;
mod maps;
mod missed_events;
mod offsets;
mod sample;
mod sources;
mod tick;
pub mod tracefs;
mod version;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
};
pub use statlink_ebpf::{COMM_LEN, COMMS, Connection, LossReason, Record, RecordKind, Source};
use statlink_ebpf::{Sample as RawSample, Totals, decide::NEVER_HEARD};
use tokio::io::{Interest, unix::AsyncFd};

pub use self::{
    error::{KernelError, Missing},
    inventory::{Inventory, Listing, SETTLE},
    iterators::OpenFiles,
    sources::{Ends, SourceTotals},
    version::KernelVersion,
};
use self::{
    hooks::{HOOKS, Hook, Standing},
    load::{Attached, Types, attach, require_initial_pids},
    maps::{failed, take},
};
use crate::{link::ConnectionId, time::Timestamp};

/// What the kernel half watches.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The peer's port.
    pub port: u16,
    /// The process names whose executions are reported, [`COMMS`] at most; at most 15 bytes of
    /// each count.
    pub process_names: Vec<String>,
}

/// The kernel half, loaded and attached.
pub struct Kernel {
    ebpf: Ebpf,
    ring: AsyncFd<RingBuf<MapData>>,
    totals: HashMap<MapData, Source, Totals>,
    untracked_totals: HashMap<MapData, Source, Totals>,
    /// What was counted about each source before it was tracked. Nothing is added to it any more,
    /// so the kernel may evict its own entry.
    before_tracked: BTreeMap<Source, SourceTotals>,
    connections: HashMap<MapData, u64, Connection>,
    losses: PerCpuArray<MapData, u64>,
    sample: Array<MapData, RawSample>,
    hooks: Vec<HookState>,
    _log: Option<log::Reader>,
}

/// Whether one hook is in place.
#[derive(Debug)]
pub struct HookState {
    /// The hook.
    pub hook: &'static Hook,
    /// Why it is not; `None` if it is.
    pub missing: Option<Missing>,
}

impl Kernel {
    /// Loads and attaches the kernel half.
    ///
    /// Must be called within a tokio runtime. An optional hook that does not load is left out;
    /// [`Self::hooks`] says so.
    ///
    /// # Errors
    ///
    /// Fails where the kernel lacks what the programs need, this is not the host's pid namespace,
    /// capabilities or memory are missing, or a required hook is refused.
    pub fn load(watch: &Watch) -> Result<Self, KernelError> {
        require_initial_pids()?;
        // Both hooks of connect() or none: the program at its entry leaves it to the one at its
        // exit to report a failure. If one is refused, start over without them.
        let types = Types::read()?;
        let kernel = Self::load_with(watch, &types, tracefs::visible())?;
        if kernel.connect_hooks_missing() && tracefs::visible() {
            drop(kernel);
            return Self::load_with(watch, &types, false);
        }
        Ok(kernel)
    }

    /// Loads and attaches for a moment, and says of every hook whether that works, required or
    /// not.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), but a hook that is refused is no error.
    pub fn probe(watch: &Watch) -> Result<Vec<HookState>, KernelError> {
        require_initial_pids()?;
        let attempts = attach(watch, &Types::read()?, tracefs::visible())?.hooks;
        let states = attempts.into_iter().map(|(hook, result)| HookState {
            hook,
            missing: result.err().map(|error| Missing::of(hook, &error)),
        });
        Ok(states.collect())
    }

    fn load_with(watch: &Watch, types: &Types, connect_hooked: bool) -> Result<Self, KernelError> {
        let Attached {
            mut ebpf,
            log,
            hooks: attempts,
        } = attach(watch, types, connect_hooked)?;
        let mut hooks = Vec::with_capacity(HOOKS.len());
        for (hook, result) in attempts {
            let missing = result.err().map(|error| Missing::of(hook, &error));
            match missing {
                Some(missing) if hook.standing == Standing::Required => {
                    return Err(KernelError::Hook {
                        hook: hook.name,
                        missing,
                    });
                }
                missing => hooks.push(HookState { hook, missing }),
            }
        }
        let ring = take(&mut ebpf, "RING")?;
        // SAFETY: the ring owns its descriptor and is not taken out of the AsyncFd before it is
        // dropped, so the registration never outlives the descriptor.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|error| KernelError::Ring(io::Error::from(error)))?;
        Ok(Self {
            ring,
            totals: take(&mut ebpf, "TOTALS")?,
            untracked_totals: take(&mut ebpf, "UNTRACKED_TOTALS")?,
            before_tracked: BTreeMap::new(),
            connections: take(&mut ebpf, "CONNECTIONS")?,
            losses: take(&mut ebpf, "LOSSES")?,
            sample: take(&mut ebpf, "SAMPLE")?,
            hooks,
            ebpf,
            _log: log,
        })
    }

    fn connect_hooks_missing(&self) -> bool {
        self.hooks
            .iter()
            .any(|state| state.hook.needs_tracefs() && state.missing.is_some())
    }

    /// Every hook, and whether it is in place.
    pub fn hooks(&self) -> &[HookState] {
        &self.hooks
    }

    /// Whether a hook of this name is in place.
    pub fn hooked(&self, name: &str) -> bool {
        self.hooks
            .iter()
            .any(|state| state.hook.name == name && state.missing.is_none())
    }

    /// Events that each hook in place has missed since it was attached; without the hooks for which
    /// the kernel has no count.
    ///
    /// The kernel does not run a program while the same one runs on the same CPU already, be it for
    /// another socket: that event is missed.
    pub fn missed_events(&self) -> Vec<(&'static str, u64)> {
        let attached = self.hooks.iter().filter(|state| state.missing.is_none());
        attached
            .filter_map(|state| {
                let program = self.ebpf.program(state.hook.name)?;
                Some((state.hook.name, missed_events::of(program)?))
            })
            .collect()
    }

    /// Waits until the kernel asks for the ring to be read. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Fails if the ring can no longer be waited for.
    pub async fn readable(&self) -> io::Result<()> {
        self.ring
            .readable()
            .await
            .map(|mut guard| guard.clear_ready())
    }

    /// Reads every record that is there; `None` for one of an unknown size, for the caller to
    /// count.
    pub fn drain(&mut self, mut each: impl FnMut(Option<Record>)) {
        let ring = self.ring.get_mut();
        while let Some(item) = ring.next() {
            each(Record::decode(&item).ok());
        }
    }

    /// How much did not reach userspace, by reason.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to read the map.
    pub fn losses(&self) -> Result<[(LossReason, u64); LossReason::ALL.len()], KernelError> {
        let mut losses = LossReason::ALL.map(|reason| (reason, 0));
        for (slot, reason) in losses.iter_mut().zip(LossReason::ALL) {
            let per_cpu = self
                .losses
                .get(&(reason as u32), 0)
                .map_err(failed("LOSSES"))?;
            slot.1 = per_cpu.iter().sum();
        }
        Ok(losses)
    }
}

/// The peer of a connection, IPv4-mapped addresses as IPv4.
pub fn peer(address: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(address)).to_canonical(), port)
}

/// The name a connection goes by, whatever happens to its socket's address later.
pub const fn connection_id(sock: u64, born_ns: u64) -> ConnectionId {
    ConnectionId {
        sock,
        born: Timestamp::from_nanos(born_ns),
    }
}

/// When data was last received, of what a record or a sample says; `None` if never.
pub const fn heard(heard_ns: u64) -> Option<Timestamp> {
    match heard_ns {
        NEVER_HEARD => None,
        heard_ns => Some(Timestamp::from_nanos(heard_ns)),
    }
}
