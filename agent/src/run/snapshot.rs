//! What a snapshot holds.

use std::{
    collections::{HashMap, hash_map},
    time::Duration,
};

use super::{ledger::Ledger, reconcile::Reconciler, registry::Entry, routing::RecordTally};
use crate::{
    discovery::{Discovery, UnobservedPod},
    kernel::{Kernel, KernelError},
    link::State,
    snapshot::{AgentSnapshot, LinkSnapshot, PodCounts, Purpose, SeriesName, Unobserved},
    time::Timestamp,
};

/// The state of one process and its own counts; `retransmits` come from the kernel.
pub(super) fn of_process(entry: &Entry, retransmits: u64, now: Timestamp) -> LinkSnapshot {
    let ago = |at| now.saturating_since(at);
    let Entry { name, machine, .. } = entry;
    LinkSnapshot {
        name: entry.series(),
        pid: name.pid,
        state: machine.state().map_time(ago),
        peer_address: machine.peer_address(),
        rtt: machine.rtt(),
        silence: machine.heard().map(ago),
        total: PodCounts {
            counts: machine.counts(),
            retransmits,
            // The ledger counts lives.
            lives: 0,
        },
    }
}

/// Merges the processes of each pod with the counts of its former lives. Of several processes, the
/// snapshot shows the state of the one with the highest [`rank`], or else of the newest.
pub(super) fn of_pods(
    processes: impl IntoIterator<Item = LinkSnapshot>,
    ledger: &Ledger,
) -> Vec<LinkSnapshot> {
    let mut pods: Vec<LinkSnapshot> = Vec::new();
    let mut index = HashMap::new();
    for mut process in processes {
        match index.entry(process.name.clone()) {
            hash_map::Entry::Vacant(entry) => {
                process.total.add(&ledger.settled(&process.name));
                entry.insert(pods.len());
                pods.push(process);
            }
            hash_map::Entry::Occupied(entry) => {
                let Some(shown) = pods.get_mut(*entry.get()) else {
                    continue;
                };
                shown.total.add(&process.total);
                if rank(&process.state) >= rank(&shown.state) {
                    process.total = std::mem::take(&mut shown.total);
                    *shown = process;
                }
            }
        }
    }
    pods
}

/// How much a state says about a pod with several processes. The pod is connected if one of them
/// is. If one is unknown, nobody can tell that none is connected. A process that has just started,
/// or is idle, says nothing about the others.
const fn rank(state: &State<Duration>) -> u8 {
    match state {
        State::Reachable { .. } => 5,
        State::Unknown { .. } => 4,
        State::Unreachable { .. } => 3,
        State::Starting => 2,
        State::Idle => 1,
        State::Ended => 0,
    }
}

/// A pod that is not observed.
pub(super) fn of_unobserved(pod: &UnobservedPod, now: Timestamp) -> Unobserved {
    Unobserved {
        name: SeriesName {
            peer: pod.peer.clone(),
            namespace: pod.namespace.clone(),
            pod: pod.pod.clone(),
        },
        since: now.saturating_since(pod.since),
        reason: pod.reason.name(),
        explanation: pod.reason.explain(&pod.process),
    }
}

/// The agent's own figures.
pub(super) fn of_agent(
    kernel: &Kernel,
    reconciler: &Reconciler,
    tally: &mut RecordTally,
    discovery: &Discovery,
    purpose: Purpose,
    now: Timestamp,
) -> Result<AgentSnapshot, KernelError> {
    let hooks = kernel.hooks().iter();
    let losses = kernel
        .losses()?
        .map(|(reason, count)| (reason.name(), count));
    Ok(AgentSnapshot {
        hooks: hooks
            .map(|state| (state.hook.name, state.missing.is_none()))
            .collect(),
        missed_events: reconciler.missed_events().to_vec(),
        records: tally.by_kind().to_vec(),
        lost: losses
            .into_iter()
            .chain([("malformed", tally.malformed())])
            .collect(),
        ring: Some((tally.backlog(purpose), statlink_ebpf::RING_BYTES.into())),
        refused: discovery.refused(),
        synced: discovery.is_synced(),
        last_record: tally.last().map(|last| now.saturating_since(last)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Cause, CheckKind, UnknownReason};

    const UNREACHABLE: State<Duration> = State::Unreachable {
        since: Duration::ZERO,
        cause: Cause::Other,
    };
    const UNKNOWN: State<Duration> = State::Unknown {
        since: Duration::ZERO,
        reason: UnknownReason::EventsMissed,
    };
    const REACHABLE: State<Duration> = State::Reachable { since: None };

    fn process(pod: &str, pid: u32, state: State<Duration>) -> LinkSnapshot {
        let mut total = PodCounts::default();
        total
            .counts
            .fail(CheckKind::Connect, Cause::Timeout, pid.into());
        LinkSnapshot {
            pid,
            state,
            total,
            ..LinkSnapshot::starting(pod)
        }
    }

    #[test]
    fn processes_of_one_pod_are_added_and_one_state_is_shown() {
        let shown = |states: &[State<Duration>]| {
            let processes = (1..).zip(states);
            let processes = processes.map(|(pid, state)| process("a", pid, *state));
            let other = process("b", 100, State::Starting);
            let pods = of_pods(processes.chain([other]), &Ledger::default());
            let [pod, other] = &pods[..] else {
                panic!("{pods:?}");
            };
            assert_eq!((other.pid, other.total.counts.total_errors()), (100, 100));
            (pod.pid, pod.total.counts.total_errors())
        };
        assert_eq!(shown(&[REACHABLE]), (1, 1));
        // A process that has just started says nothing about a running one.
        assert_eq!(shown(&[REACHABLE, State::Starting]), (1, 3));
        assert_eq!(shown(&[UNREACHABLE, State::Starting]), (1, 3));
        assert_eq!(shown(&[State::Idle, State::Starting]), (2, 3));
        // The pod is connected if one of its processes is.
        assert_eq!(shown(&[UNREACHABLE, REACHABLE]), (2, 3));
        assert_eq!(shown(&[REACHABLE, UNREACHABLE]), (1, 3));
        assert_eq!(shown(&[UNKNOWN, REACHABLE]), (2, 3));
        // If one is unknown, nobody can tell that none is connected.
        assert_eq!(shown(&[UNKNOWN, UNREACHABLE, State::Starting]), (1, 6));
        // Of two states with one rank, the newest process's.
        assert_eq!(shown(&[UNREACHABLE, UNREACHABLE, State::Ended]), (2, 6));
    }
}
