//! A snapshot of all that the agent knows, and how to request one. Metrics, `statlink status` and
//! readiness all read this one type.
//!
//! It is taken as a whole, so that figures that belong together (checks and errors) always agree.

#[cfg(test)]
mod examples;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::link::{Counts, State};

/// Requests snapshots from the running agent's loop.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots(mpsc::Sender<SnapshotRequest>);

/// One request for a snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotRequest {
    /// The purpose.
    pub purpose: Purpose,
    /// Where to send it.
    pub reply: oneshot::Sender<Arc<Snapshot>>,
}

/// The purpose of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An export: figures about the time since the last one start over.
    Export,
    /// A look, which changes nothing.
    Look,
}

impl Snapshots {
    /// The handle, and the receiver for the loop.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<SnapshotRequest>) {
        let (requests, queue) = mpsc::channel(REQUESTS);
        (Self(requests), queue)
    }

    /// Everything the agent knows now; `None` if it is stopping.
    pub(crate) async fn take(&self, purpose: Purpose) -> Option<Arc<Snapshot>> {
        let (reply, answer) = oneshot::channel();
        self.0.send(SnapshotRequest { purpose, reply }).await.ok()?;
        answer.await.ok()
    }
}

/// How many requests may wait for the loop: as many as the control socket has clients. Exports and
/// readiness come on top; a request without room waits for it.
const REQUESTS: usize = 16;

/// Everything at one instant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// One entry for each series, in the order of discovery; several processes of a pod are one
    /// entry.
    pub links: Vec<LinkSnapshot>,
    /// Pods without a process, with their counts when the last one ended.
    pub departed: Vec<Departed>,
    /// Pods that run here while the agent sees no process of them: their links are unknown.
    pub unobserved: Vec<Unobserved>,
    /// The agent's own figures.
    pub agent: AgentSnapshot,
}

/// The name of a pod's series: the attributes of its data points.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct SeriesName {
    /// The value of `peer`.
    pub peer: String,
    /// Namespace of the client's pod.
    pub namespace: String,
    /// Name of the client's pod.
    pub pod: String,
}

/// The counts of a pod, all its lives together. Every number only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodCounts {
    /// Checks, errors and connects.
    pub counts: Counts,
    /// Retransmitted segments.
    pub retransmits: u64,
    /// Processes of the client, the present ones included.
    pub lives: u64,
}

/// One pod and its peer.
#[derive(Clone, Debug)]
pub(crate) struct LinkSnapshot {
    /// The name of its series.
    pub name: SeriesName,
    /// Process id of the client whose state is shown.
    pub pid: u32,
    /// Whether it is reachable, for how long, and why not.
    pub state: State<Duration>,
    /// The destination of the live connection, or else of the last attempt.
    pub peer_address: Option<SocketAddr>,
    /// Smoothed round-trip time of the live connection.
    pub rtt: Option<Duration>,
    /// Time since the peer was last heard on an existing connection.
    pub silence: Option<Duration>,
    /// The pod's counts.
    pub total: PodCounts,
}

/// A pod that has no process left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Departed {
    /// The name of its series.
    pub name: SeriesName,
    /// Its counts.
    pub total: PodCounts,
}

/// A pod that runs here while the agent sees no process of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unobserved {
    /// The name that its series would have.
    pub name: SeriesName,
    /// For how long.
    pub since: Duration,
    /// The likely reason: a value of `statlink.unobserved.reason`.
    pub reason: &'static str,
    /// The same in words.
    pub explanation: String,
}

impl PodCounts {
    /// Adds the counts of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.retransmits = self.retransmits.saturating_add(other.retransmits);
        self.lives = self.lives.saturating_add(other.lives);
    }
}

/// The agent's own health.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentSnapshot {
    /// Each hook and whether it is attached.
    pub hooks: Vec<(&'static str, bool)>,
    /// Events that each hook missed; without hooks for which the kernel has no count.
    pub missed_events: Vec<(&'static str, u64)>,
    /// Kernel records read, by kind.
    pub records: Vec<(&'static str, u64)>,
    /// Kernel records lost, by reason.
    pub lost: Vec<(&'static str, u64)>,
    /// Processes with a client's name that have no link, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// The most bytes found waiting in the ring since the last export, and its size.
    pub ring: Option<(u64, u64)>,
    /// Since the last kernel record; `None` before the first.
    pub last_record: Option<Duration>,
    /// Whether the Kubernetes API has listed everything once, or is not used.
    pub synced: bool,
}
