//! The kernel half, from userspace: load it, attach it, read it.
//!
//! Nothing here knows what a record means for a link; that is [`crate::link`]'s.

pub mod btf;
mod error;
pub mod hooks;
mod load;
mod log;
mod misses;
mod offsets;
mod ticks;
pub mod tracefs;
mod version;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{Iter, RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
pub use statlink_ebpf::{COMM_LEN, COMMS, Connection, Record, RecordKind, Source};
use statlink_ebpf::{ENDS, Loss, NEVER_HEARD, PHASES, Process, Sample as RawSample, Totals};
use tokio::io::{Interest, unix::AsyncFd};

pub use self::{
    error::{KernelError, Missing},
    version::KernelVersion,
};
use self::{
    hooks::{HOOKS, Hook, HookError, Standing},
    load::{Attached, Types, attach, require_initial_pids},
    ticks::Ticks,
};
use crate::{
    chain::chain,
    link::{ConnectionId, Sample},
    time::Timestamp,
};

/// What the kernel half watches.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The peer's port.
    pub port: u16,
    /// The names whose executions are told, [`COMMS`] at most; at most 15 bytes of each count.
    pub process_names: Vec<String>,
}

/// The kernel half, loaded and attached.
pub struct Kernel {
    ebpf: Ebpf,
    ring: AsyncFd<RingBuf<MapData>>,
    totals: HashMap<MapData, Source, Totals>,
    stranger_totals: HashMap<MapData, Source, Totals>,
    /// What was counted about each source before it was asked for: nobody adds to it any more, so
    /// the kernel may evict it.
    before_asked: BTreeMap<Source, SourceTotals>,
    connections: HashMap<MapData, u64, Connection>,
    losses: PerCpuArray<MapData, u64>,
    sample: Array<MapData, RawSample>,
    ticks: Ticks,
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

/// Ends by phase and kind, as counted in the kernel.
pub type Ends = [[u32; ENDS]; PHASES];

/// What the kernel holds about one source at one moment.
#[derive(Debug)]
pub struct Inventory {
    /// When the look began.
    pub at: Timestamp,
    /// Connections that are open.
    pub open: Vec<(u64, Connection)>,
    /// Ends that no record told, since the source's beginning.
    pub missed: Ends,
}

/// What the kernel counted about one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceTotals {
    /// connect() calls.
    pub attempts: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Ends by phase and kind.
    pub ended: Ends,
    /// Those that no record told.
    pub missed: Ends,
}

impl SourceTotals {
    fn merge(&mut self, other: &Self, long: fn(u64, u64) -> u64, short: fn(u32, u32) -> u32) {
        self.attempts = long(self.attempts, other.attempts);
        self.retransmits = long(self.retransmits, other.retransmits);
        for (mine, others) in [
            (&mut self.ended, &other.ended),
            (&mut self.missed, &other.missed),
        ] {
            for (mine, other) in mine.iter_mut().flatten().zip(others.iter().flatten()) {
                *mine = short(*mine, *other);
            }
        }
    }
}

impl Kernel {
    /// Loads and attaches the kernel half.
    ///
    /// Must be called within a tokio runtime. An optional hook that does not load is left out and
    /// told by [`Self::hooks`]; a required one is an error.
    pub fn load(watch: &Watch) -> Result<Self, KernelError> {
        require_initial_pids()?;
        // Both hooks of connect() or none: without its exit, its entry would promise what nobody
        // keeps. If one is refused, start over without them.
        let types = Types::read()?;
        let kernel = Self::load_with(watch, &types, tracefs::visible())?;
        if kernel.connect_hooks_missing() && tracefs::visible() {
            drop(kernel);
            return Self::load_with(watch, &types, false);
        }
        Ok(kernel)
    }

    /// Loads and attaches for a moment, and tells of every hook whether that works, required or
    /// not.
    ///
    /// Must be called within a tokio runtime.
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
        let mut kernel = Self {
            ring,
            totals: take(&mut ebpf, "TOTALS")?,
            stranger_totals: take(&mut ebpf, "STRANGER_TOTALS")?,
            before_asked: BTreeMap::new(),
            connections: take(&mut ebpf, "CONNECTIONS")?,
            losses: take(&mut ebpf, "LOSSES")?,
            sample: take(&mut ebpf, "SAMPLE")?,
            ticks: Ticks::new(0, 0),
            hooks,
            ebpf,
            _log: log,
        };
        let first = kernel.look(0, 0)?;
        kernel.ticks = Ticks::new(first.time_ns, first.jiffies);
        Ok(kernel)
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

    /// Events that each hook in place has missed since it was attached; without those of which the
    /// kernel does not tell.
    ///
    /// The kernel runs no program while the same one runs on the same CPU already, be it for
    /// another socket: it leaves the event out.
    pub fn misses(&self) -> Vec<(&'static str, u64)> {
        let attached = self.hooks.iter().filter(|state| state.missing.is_none());
        attached
            .filter_map(|state| {
                let program = self.ebpf.program(state.hook.name)?;
                Some((state.hook.name, misses::of(program)?))
            })
            .collect()
    }

    /// Waits until the kernel asks to be read. Cancel-safe.
    pub async fn readable(&self) -> io::Result<()> {
        self.ring
            .readable()
            .await
            .map(|mut guard| guard.clear_ready())
    }

    /// Reads every record that is there. Records of an unknown shape are counted by the caller:
    /// `None`.
    pub fn drain(&mut self, mut each: impl FnMut(Option<Record>)) {
        let ring = self.ring.get_mut();
        while let Some(item) = ring.next() {
            each(decode(&item));
        }
    }

    /// Asks for a source: from now on its ends are told by records. Returns whether there was room
    /// for it.
    pub fn ask(&mut self, source: Source) -> Result<bool, KernelError> {
        match self.totals.insert(source, Totals::default(), BPF_NOEXIST) {
            Ok(()) => {}
            Err(error) if errno(&error) == Some(io::ErrorKind::AlreadyExists) => {}
            // E2BIG: `htab_map_update_elem()` in `kernel/bpf/hashtab.c`.
            Err(error) if errno(&error) == Some(io::ErrorKind::ArgumentListTooLong) => {
                return Ok(false);
            }
            Err(error) => return Err(map("TOTALS")(error)),
        }
        self.before_asked.entry(source).or_default();
        Ok(true)
    }

    /// Finds the open connections of all sources asked for, older than the agent or not.
    ///
    /// Returns whether that is possible on this kernel.
    pub fn enumerate(&mut self) -> Result<bool, KernelError> {
        if !self.hooked("enumerate") {
            return Ok(false);
        }
        self.iterate("enumerate", &mut io::sink())?;
        Ok(true)
    }

    /// Inode number of the network namespace of a process of the watched name, or of `kthreadd`;
    /// `None` if it is neither, is gone, or this kernel cannot tell.
    pub fn network_namespace(&mut self, tgid: u32) -> Result<Option<u32>, KernelError> {
        if !self.hooked("namespaces") {
            return Ok(None);
        }
        let mut processes = Vec::new();
        self.iterate("namespaces", &mut processes)?;
        let (processes, _) = processes.as_chunks::<{ size_of::<Process>() }>();
        let mut processes = processes.iter().map(process);
        let found = processes.find(|process| process.tgid == tgid);
        Ok(found
            .map(|process| process.netns)
            .filter(|netns| *netns != 0))
    }

    /// Runs an iterator once, into `out`.
    fn iterate(&mut self, name: &'static str, out: &mut impl io::Write) -> Result<(), KernelError> {
        let run = |reason: &(dyn std::error::Error + 'static)| KernelError::Run {
            program: name,
            reason: chain(reason),
        };
        let program = self.ebpf.program_mut(name);
        let program = program.ok_or_else(|| run(&HookError::NotInObject))?;
        let program: &mut Iter = program.try_into().map_err(|error| run(&error))?;
        let link = program.attach().map_err(|error| run(&error))?;
        let link = program.take_link(link).map_err(|error| run(&error))?;
        let mut pass = link.into_file().map_err(|error| run(&error))?;
        loop {
            match io::copy(&mut pass, out) {
                Ok(_) => return Ok(()),
                // After a million objects of which nothing was told: `MAX_ITER_OBJECTS` of
                // `kernel/bpf/bpf_iter.c`. It goes on where it was.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(run(&error)),
            }
        }
    }

    /// Stops asking for a source whose process is gone, and forgets it.
    pub fn dismiss(&mut self, source: Source) -> Result<(), KernelError> {
        for (name, totals) in [
            ("TOTALS", &mut self.totals),
            ("STRANGER_TOTALS", &mut self.stranger_totals),
        ] {
            match totals.remove(&source) {
                Ok(()) => {}
                Err(error) if not_found(&error) => {}
                Err(error) => return Err(map(name)(error)),
            }
        }
        self.before_asked.remove(&source);
        Ok(())
    }

    /// What the kernel holds about `source`; `None` while it changes too fast for one coherent
    /// look, in which case the caller drains the ring and asks again later.
    pub fn inventory(
        &mut self,
        source: Source,
        now: Timestamp,
    ) -> Result<Option<Inventory>, KernelError> {
        let before = self.source_totals(source)?.missed;
        let mut open = BTreeMap::new();
        for (seen, entry) in self.connections.iter().enumerate() {
            // Deletions under way make the kernel start over; it must end all the same.
            if seen > ENOUGH_ENTRIES {
                return Ok(None);
            }
            match entry {
                Ok((sock, connection)) => {
                    if connection.netns == source.netns && connection.tgid == source.tgid {
                        open.insert(sock, connection);
                    }
                }
                Err(error) if not_found(&error) => {}
                Err(error) => return Err(map("CONNECTIONS")(error)),
            }
        }
        // The programs forget a connection first and count its end next. Were they between the two,
        // they have counted it by now.
        std::thread::sleep(SETTLE);
        let missed = self.source_totals(source)?.missed;
        Ok((before == missed).then(|| Inventory {
            at: now,
            open: open.into_iter().collect(),
            missed,
        }))
    }

    /// What the kernel counted about `source`, before and since it was asked for.
    pub fn source_totals(&mut self, source: Source) -> Result<SourceTotals, KernelError> {
        let mut sum = read_totals("STRANGER_TOTALS", &self.stranger_totals, source)?;
        if let Some(before) = self.before_asked.get_mut(&source) {
            before.merge(&sum, u64::max, u32::max);
            sum = *before;
        }
        let since = read_totals("TOTALS", &self.totals, source)?;
        sum.merge(&since, u64::saturating_add, u32::saturating_add);
        Ok(sum)
    }

    /// Looks at one connection; `None` if it is no longer the one asked for, or cannot be dated
    /// yet.
    pub fn sample(&mut self, connection: ConnectionId) -> Result<Option<Sample>, KernelError> {
        let raw = self.look(connection.sock, connection.born.as_nanos())?;
        self.ticks.observe(raw.time_ns, raw.jiffies);
        if raw.valid == 0 {
            return Ok(None);
        }
        let at = Timestamp::from_nanos(raw.time_ns);
        let sent = self.ticks.duration(raw.sent_ago).map(|ago| at - ago);
        Ok(Some(Sample {
            established: raw.state == TCP_ESTABLISHED,
            heard: self.heard(at, raw.heard_ago),
            sent,
            unacknowledged: raw.packets_out > 0,
            timeouts: raw.timeouts,
            rtt: (raw.srtt_us > 0).then(|| Duration::from_micros(u64::from(raw.srtt_us))),
        }))
    }

    /// When data was last received, `ago` jiffies before `at`.
    pub fn heard(&self, at: Timestamp, ago: u32) -> Option<Timestamp> {
        if ago == NEVER_HEARD {
            return None;
        }
        self.ticks.duration(ago).map(|ago| at - ago)
    }

    fn look(&mut self, sock: u64, born_ns: u64) -> Result<RawSample, KernelError> {
        let run = |reason: &(dyn std::error::Error + 'static)| KernelError::Run {
            program: "sample",
            reason: chain(reason),
        };
        let program = self.ebpf.program_mut("sample");
        let program = program.ok_or_else(|| run(&HookError::NotInObject))?;
        let program: &mut RawTracePoint = program.try_into().map_err(|error| run(&error))?;
        let mut options = RawTracePointRunOptions::new();
        let [first, second, ..] = &mut options.args;
        (*first, *second) = (sock, born_ns);
        program.test_run(options).map_err(|error| run(&error))?;
        self.sample.get(&0, 0).map_err(map("SAMPLE"))
    }

    /// How much did not reach userspace, by reason.
    pub fn losses(&self) -> Result<[(&'static str, u64); Loss::ALL.len()], KernelError> {
        let mut losses = Loss::ALL.map(|reason| (reason.name(), 0));
        for (slot, reason) in losses.iter_mut().zip(Loss::ALL) {
            let per_cpu = self
                .losses
                .get(&(reason as u32), 0)
                .map_err(map("LOSSES"))?;
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

/// A record, if it is one.
fn decode(bytes: &[u8]) -> Option<Record> {
    if bytes.len() != size_of::<Record>() {
        return None;
    }
    // SAFETY: `Record` is `Pod`, the length is right, and the read may be unaligned.
    Some(unsafe { bytes.as_ptr().cast::<Record>().read_unaligned() })
}

fn process(bytes: &[u8; size_of::<Process>()]) -> Process {
    let [a, b, c, d, e, f, g, h] = *bytes;
    Process {
        tgid: u32::from_ne_bytes([a, b, c, d]),
        netns: u32::from_ne_bytes([e, f, g, h]),
    }
}

/// Nothing, if the map has no such source.
fn read_totals(
    name: &'static str,
    totals: &HashMap<MapData, Source, Totals>,
    source: Source,
) -> Result<SourceTotals, KernelError> {
    match totals.get(&source, 0) {
        Ok(totals) => Ok(SourceTotals {
            attempts: totals.attempts,
            retransmits: totals.retransmits,
            ended: totals.ended,
            missed: totals.missed,
        }),
        Err(error) if not_found(&error) => Ok(SourceTotals::default()),
        Err(error) => Err(map(name)(error)),
    }
}

fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, KernelError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let found = ebpf.take_map(name).ok_or_else(|| KernelError::Map {
        map: name,
        source: MapError::InvalidName {
            name: name.to_owned(),
        },
    })?;
    T::try_from(found).map_err(map(name))
}

fn map(map: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map { map, source }
}

fn not_found(error: &MapError) -> bool {
    errno(error) == Some(io::ErrorKind::NotFound)
        || matches!(error, MapError::KeyNotFound | MapError::ElementNotFound)
}

fn errno(error: &MapError) -> Option<io::ErrorKind> {
    if let MapError::SyscallError(error) = error {
        return Some(error.io_error.kind());
    }
    None
}

/// `include/uapi/linux/bpf.h`.
const BPF_NOEXIST: u64 = 1;
/// `include/net/tcp_states.h`.
const TCP_ESTABLISHED: u8 = 1;
/// Four times what the map of connections holds.
const ENOUGH_ENTRIES: usize = 4096;
/// A program takes a microsecond; a CPU that is taken away from it, seldom more than this.
const SETTLE: Duration = Duration::from_millis(1);
