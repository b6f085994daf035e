//! The kernel half once it is loaded: its hooks, its ring and its losses.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd as _,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray},
};
use statlink_ebpf::{
    ConnectCall, Connection, LossReason, Neighbourhood, Record, Sample, Source, Totals,
};

use super::{
    connect_hooks::ConnectSeen,
    error::{KernelError, Missing},
    hooks::{Attachment, Group, HOOKS, Hook, Standing},
    load::{Attached, LeftOut, Types, Watch, attach, require_initial_pids},
    log,
    maps::{failed, take},
    missed_events,
    pins::{Pinned, told::ends_of},
    rings::Rings,
    totals::SourceTotals,
    tracefs::Tracefs,
};

/// The kernel half, loaded and attached.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    pub(super) rings: Rings,
    pub(super) sources: HashMap<MapData, Source, Totals>,
    pub(super) namespaces: HashMap<MapData, u32, Neighbourhood>,
    /// Which sources and whole namespaces are tracked.
    pub(super) tracked: BTreeSet<Source>,
    /// What was counted about each source until it was last retired: somebody has had it.
    pub(super) retired: BTreeMap<Source, SourceTotals>,
    /// What beyond its totals is to be told of a source: what a predecessor read and did not tell.
    pub(super) untold: BTreeMap<Source, SourceTotals>,
    pub(super) connections: HashMap<MapData, u64, Connection>,
    pub(super) calls: HashMap<MapData, u64, ConnectCall>,
    pub(super) losses: PerCpuArray<MapData, u64>,
    pub(super) sample: Array<MapData, Sample>,
    pub(super) hooks: Vec<HookState>,
    pub(super) connect: ConnectSeen,
    /// What outlives this process, if anything does.
    pub(super) pinned: Option<Pinned>,
    pub(super) _log: Option<log::Reader>,
}

/// All that the agent attaches, in place.
pub(super) struct Whole {
    pub(super) ebpf: Ebpf,
    pub(super) attachments: Vec<(&'static Hook, Attachment)>,
    pub(super) log: Option<log::Reader>,
    pub(super) hooks: Vec<HookState>,
    pub(super) connect: ConnectSeen,
}

impl Whole {
    /// Attaches everything anew.
    pub(super) fn attach(
        watch: &Watch,
        tracefs: &Tracefs,
        types: &Types,
    ) -> Result<Self, KernelError> {
        let mut left_out = LeftOut::first(watch, tracefs);
        loop {
            let whole = Self::of(attach(watch, types, &left_out)?)?;
            // An attached program can be let go of only with all others: start over without the group.
            // Then none of it is in place, so this ends.
            match torn_group(&whole.hooks) {
                Some(refused) => {
                    left_out.connect = whole.connect;
                    left_out.groups.push(refused);
                }
                None => return Ok(whole),
            }
        }
    }

    fn of(attached: Attached) -> Result<Self, KernelError> {
        let Attached {
            ebpf,
            attachments,
            log,
            hooks: attempts,
            connect,
        } = attached;
        let mut hooks = Vec::with_capacity(HOOKS.len());
        for (hook, missing) in attempts {
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
        Ok(Self {
            ebpf,
            attachments,
            log,
            hooks,
            connect,
        })
    }
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
    /// [`Self::hooks`] says so. `tracefs`: what [`show`](super::tracefs::show) or [`look`](super::tracefs::look) said.
    ///
    /// # Errors
    ///
    /// Fails where the kernel lacks what the programs need, this is not the host's pid namespace,
    /// capabilities or memory are missing, or a required hook is refused.
    pub fn load(watch: &Watch, tracefs: &Tracefs) -> Result<Self, KernelError> {
        require_initial_pids()?;
        Self::of(Whole::attach(watch, tracefs, &Types::read()?)?)
    }

    /// Loads and attaches for a moment, and says of every hook whether that works, required or
    /// not.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), but a hook that is refused is no error.
    pub fn probe(
        watch: &Watch,
        tracefs: &Tracefs,
    ) -> Result<(Vec<HookState>, ConnectSeen), KernelError> {
        require_initial_pids()?;
        let left_out = LeftOut::first(watch, tracefs);
        let attached = attach(watch, &Types::read()?, &left_out)?;
        let states = attached
            .hooks
            .into_iter()
            .map(|(hook, missing)| HookState { hook, missing });
        Ok((states.collect(), attached.connect))
    }

    /// What is attached, with its maps and rings open.
    pub(super) fn of(whole: Whole) -> Result<Self, KernelError> {
        let Whole {
            mut ebpf,
            log,
            hooks,
            connect,
            ..
        } = whole;
        Ok(Self {
            rings: Rings::take(&mut ebpf)?,
            sources: take(&mut ebpf, "SOURCES")?,
            namespaces: take(&mut ebpf, "NAMESPACES")?,
            tracked: BTreeSet::new(),
            retired: BTreeMap::new(),
            untold: BTreeMap::new(),
            connections: take(&mut ebpf, "CONNECTIONS")?,
            calls: take(&mut ebpf, "CALLS")?,
            losses: take(&mut ebpf, "LOSSES")?,
            sample: take(&mut ebpf, "SAMPLE")?,
            hooks,
            connect,
            pinned: None,
            ebpf,
            _log: log,
        })
    }

    /// Every hook, and whether it is in place.
    pub fn hooks(&self) -> &[HookState] {
        &self.hooks
    }

    /// How connect() is seen.
    pub fn connect_seen(&self) -> &ConnectSeen {
        &self.connect
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
                let name = state.hook.name;
                let pinned = self.pinned.as_ref().and_then(|pinned| pinned.program(name));
                let missed = match pinned {
                    Some(program) => missed_events::of(program),
                    None => missed_events::of(self.ebpf.program(name)?.fd().ok()?.as_fd()),
                };
                Some((name, missed?))
            })
            .collect()
    }

    /// Whether the programs can be preempted here, so that events are missed now and then.
    pub fn is_preemptible(&self) -> bool {
        !self.rings.woken()
    }

    /// Waits until there is something to read. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Fails if the rings can no longer be waited for.
    pub async fn readable(&self) -> io::Result<()> {
        self.rings.readable().await
    }

    /// Reads every record that is there, in the order of their events; `None` for one of an unknown
    /// size, for the caller to count. Ends of clients that a predecessor tracked and that are not found yet are
    /// handed out as well, and are missed ends of those.
    pub fn drain(&mut self, mut each: impl FnMut(Option<Record>)) {
        let tracked = &self.tracked;
        let nobody = BTreeSet::new();
        let awaited = self.pinned.as_ref().map_or(&nobody, |it| &it.awaited);
        let untold = &mut self.untold;
        let is_counted = |source: Source| tracked.contains(&source) || awaited.contains(&source);
        self.rings.drain(is_counted, |record| {
            if !awaited.is_empty() {
                let ends = ends_of(&[record]).into_iter();
                for (source, missed) in ends.filter(|(source, _)| awaited.contains(source)) {
                    let missed = SourceTotals {
                        missed,
                        ..SourceTotals::default()
                    };
                    let untold = untold.entry(source).or_default();
                    untold.merge(&missed, u64::saturating_add, u32::saturating_add);
                }
            }
            each(record);
        });
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

/// A group of which a hook is in place and another one is not, and why that one is not.
pub(super) fn torn_group(hooks: &[HookState]) -> Option<(Group, Missing)> {
    hooks.iter().find_map(|state| {
        let (group, missing) = (state.hook.group?, state.missing.clone()?);
        let mut others = hooks.iter().filter(|other| other.hook.group == Some(group));
        others
            .any(|other| other.missing.is_none())
            .then_some((group, missing))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::refusal::Cause;

    /// The state of each hook; those named are missing.
    fn hooks(missing: &[&str]) -> Vec<HookState> {
        let state = |hook: &'static Hook| HookState {
            hook,
            missing: missing.contains(&hook.name).then(|| Missing {
                reason: hook.name.to_owned(),
                cause: Cause::Unseen { modules: None },
                cure: "".into(),
            }),
        };
        HOOKS.iter().map(state).collect()
    }

    #[test]
    fn a_group_is_torn_if_some_of_its_hooks_are_missing_but_not_all() {
        let torn = |missing: &[&str]| torn_group(&hooks(missing)).map(|(_, why)| why.reason);
        assert_eq!(torn(&[]), None);
        assert_eq!(
            torn(&["sys_exit_connect"]),
            Some("sys_exit_connect".to_owned())
        );
        assert_eq!(torn(&["sys_enter_connect", "sys_exit_connect"]), None);
        assert_eq!(torn(&["sched_process_exec"]), None);
    }
}
