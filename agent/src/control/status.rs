//! What `statlink status` shows, and the shape of its JSON.

mod state;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    link::{State, UnknownReason},
    link_event::LinkName,
    snapshot::{LinkSnapshot, PodCounts, Snapshot, Unobserved},
};

/// The agent and its links at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Version of the running agent.
    pub version: String,
    /// Hooks that are not attached. `statlink check` says what is missing without each.
    pub hooks_missing: Vec<String>,
    /// What did not reach the agent, for any reason: the sum of `losses`.
    pub records_lost: u64,
    /// One entry for each pod and its peer, in the order of discovery; then the pods that are not
    /// observed, with process id 0.
    pub links: Vec<LinkStatus>,
    /// Why pods are not observed.
    #[serde(default)]
    pub unobserved: Vec<UnobservedStatus>,
    /// How many processes with a client's name have no link, by reason.
    #[serde(default)]
    pub clients_refused: BTreeMap<String, u64>,
    /// What did not reach the agent, by reason: a value of `statlink.loss.reason`.
    #[serde(default)]
    pub losses: BTreeMap<String, u64>,
    /// Events for which the kernel did not run a hook's program, by hook.
    #[serde(default)]
    pub events_missed: BTreeMap<String, u64>,
}

/// A pod that runs here while the agent sees no process of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnobservedStatus {
    /// The peer of its link.
    pub peer: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The likely reason: a value of `statlink.unobserved.reason`.
    pub reason: String,
    /// The same in words.
    pub explanation: String,
}

/// The first line of the answer to `status`: the agent itself. One line follows for each link, so
/// that neither side has to hold more of the answer's text than one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusHead {
    /// The status without its links.
    pub status: Status,
    /// How many lines follow, each a [`LinkStatus`].
    pub links: usize,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LinkStatus {
    /// The link's name.
    #[serde(flatten)]
    pub name: LinkName,
    /// Whether it is reachable, for how long, and why not: `state`, `since_seconds`, `cause`, and
    /// `unknown_reason` for an unknown state.
    #[serde(flatten, with = "state")]
    pub state: State<Duration>,
    /// The destination of the live connection, or else of the last attempt.
    pub peer_address: Option<SocketAddr>,
    /// Smoothed round-trip time of the live connection.
    pub rtt_seconds: Option<f64>,
    /// Time since the client last heard from the peer on an existing connection.
    pub silence_seconds: Option<f64>,
    /// Checks, of all kinds.
    pub checks: u64,
    /// Checks that decided against.
    pub errors: u64,
    /// Connections that were upgraded.
    pub connects: u64,
    /// Segments that were retransmitted.
    pub retransmits: u64,
    /// How many processes the pod's client has had: more than one if its container was restarted.
    pub lives: u64,
}

/// The lines that follow the head.
pub(super) fn lines(snapshot: &Snapshot) -> impl Iterator<Item = LinkStatus> {
    let unobserved = snapshot.unobserved.iter().map(LinkStatus::from);
    snapshot
        .links
        .iter()
        .map(LinkStatus::from)
        .chain(unobserved)
}

impl From<&Snapshot> for StatusHead {
    fn from(snapshot: &Snapshot) -> Self {
        let agent = &snapshot.agent;
        let missing = agent.hooks.iter().filter(|(_, attached)| !attached);
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hooks_missing: missing.map(|(name, _)| (*name).to_owned()).collect(),
            records_lost: agent.lost.iter().map(|(_, lost)| lost).sum(),
            links: Vec::new(),
            unobserved: snapshot.unobserved.iter().map(Into::into).collect(),
            clients_refused: above_zero(&agent.refused),
            losses: above_zero(&agent.lost),
            events_missed: above_zero(&agent.missed_events),
        };
        Self {
            status,
            links: snapshot.links.len() + snapshot.unobserved.len(),
        }
    }
}

fn above_zero(counts: &[(&'static str, u64)]) -> BTreeMap<String, u64> {
    let above = counts.iter().filter(|(_, number)| *number > 0);
    above
        .map(|(name, number)| ((*name).to_owned(), *number))
        .collect()
}

impl From<&LinkSnapshot> for LinkStatus {
    fn from(link: &LinkSnapshot) -> Self {
        let seconds = |duration: Option<Duration>| duration.as_ref().map(Duration::as_secs_f64);
        Self {
            name: LinkName {
                peer: link.name.peer.clone(),
                namespace: link.name.namespace.clone(),
                pod: link.name.pod.clone(),
                pid: link.pid,
            },
            state: link.state,
            peer_address: link.peer_address,
            rtt_seconds: seconds(link.rtt),
            silence_seconds: seconds(link.silence),
            checks: link.total.counts.total_checks(),
            errors: link.total.counts.total_errors(),
            connects: link.total.counts.connects(),
            retransmits: link.total.retransmits,
            lives: link.total.lives,
        }
    }
}

impl From<&Unobserved> for LinkStatus {
    fn from(pod: &Unobserved) -> Self {
        Self::from(&LinkSnapshot {
            name: pod.name.clone(),
            pid: 0,
            state: State::Unknown {
                since: pod.since,
                reason: UnknownReason::NotObserved,
            },
            peer_address: None,
            rtt: None,
            silence: None,
            total: PodCounts::default(),
        })
    }
}

impl From<&Unobserved> for UnobservedStatus {
    fn from(pod: &Unobserved) -> Self {
        Self {
            peer: pod.name.peer.clone(),
            namespace: pod.name.namespace.clone(),
            pod: pod.name.pod.clone(),
            reason: pod.reason.to_owned(),
            explanation: pod.explanation.clone(),
        }
    }
}
