//! What a snapshot holds.

use super::{
    reconcile::Reconciler,
    registry::{Entry, LinkId},
    routing::RecordTally,
};
use crate::{
    kernel::{Kernel, KernelError},
    snapshot::{AgentSnapshot, LinkSnapshot},
    time::Timestamp,
};

/// One link; the kernel counts what it sent again.
pub(super) fn of_link(
    LinkId(id): LinkId,
    entry: &Entry,
    retransmits: u64,
    now: Timestamp,
) -> LinkSnapshot {
    let ago = |at| now.saturating_since(at);
    let Entry { name, machine, .. } = entry;
    LinkSnapshot {
        id,
        peer: name.peer.clone(),
        namespace: name.namespace.clone(),
        pod: name.pod.clone(),
        pid: name.pid,
        state: machine.state().map_time(ago),
        peer_address: machine.peer_address(),
        rtt: machine.rtt(),
        silence: machine.heard().map(ago),
        counts: machine.counts(),
        retransmits,
    }
}

/// The agent about itself.
pub(super) fn of_agent(
    kernel: &Kernel,
    reconciler: &Reconciler,
    tally: &mut RecordTally,
    synced: bool,
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
        ring: Some((tally.take_backlog(), statlink_ebpf::RING_BYTES.into())),
        synced,
        last_record: tally.last().map(|last| now.saturating_since(last)),
    })
}
