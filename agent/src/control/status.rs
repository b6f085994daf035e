//! What `statlink status` shows, and the shape of its JSON.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    link::Cause,
    report::LinkName,
    snapshot::{LinkSnapshot, Snapshot},
};

/// The agent and its links at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the running agent.
    pub version: String,
    /// Hooks that are not attached; what is lost without them is in `statlink check`.
    pub hooks_missing: Vec<String>,
    /// Kernel records that did not reach the agent. Counts are reconciled; details are lost.
    pub records_lost: u64,
    /// One entry a link, in the order of discovery.
    pub links: Vec<LinkStatus>,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Whose, and to whom.
    #[serde(flatten)]
    pub name: LinkName,
    /// Whether it is up.
    pub state: State,
    /// How long it has been so; `null` when that began before the agent, or nothing is known yet.
    pub since_seconds: Option<f64>,
    /// Why it is not reachable.
    pub cause: Option<Cause>,
    /// Where the live connection, or else the last attempt, goes.
    pub peer_address: Option<SocketAddr>,
    /// Smoothed round-trip time of the live connection.
    pub rtt_seconds: Option<f64>,
    /// Since the peer was last heard on a connection that exists.
    pub silence_seconds: Option<f64>,
    /// Checks, of all kinds.
    pub checks: u64,
    /// Checks that decided against.
    pub errors: u64,
    /// Connections that were upgraded.
    pub connects: u64,
    /// Segments sent again.
    pub retransmits: u64,
}

/// Whether a link is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There is nothing to be connected to: a forwarder without an owner to forward to.
    Idle,
    /// In the start-up grace.
    Starting,
    /// It has a live connection.
    Reachable,
    /// It has none.
    Unreachable,
}

impl State {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Reachable => "reachable",
            Self::Unreachable => "unreachable",
        }
    }
}

impl From<&Snapshot> for Status {
    fn from(snapshot: &Snapshot) -> Self {
        let agent = &snapshot.agent;
        let missing = agent.hooks.iter().filter(|(_, attached)| !attached);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hooks_missing: missing.map(|(name, _)| (*name).to_owned()).collect(),
            records_lost: agent.lost.iter().map(|(_, lost)| lost).sum(),
            links: snapshot.links.iter().map(LinkStatus::from).collect(),
        }
    }
}

impl From<&LinkSnapshot> for LinkStatus {
    fn from(link: &LinkSnapshot) -> Self {
        let seconds = |duration: Option<Duration>| duration.as_ref().map(Duration::as_secs_f64);
        Self {
            name: LinkName {
                peer: link.peer.clone(),
                namespace: link.namespace.clone(),
                pod: link.pod.clone(),
                pid: link.pid,
            },
            state: match link.reachable {
                None if link.idle => State::Idle,
                None => State::Starting,
                Some(true) => State::Reachable,
                Some(false) => State::Unreachable,
            },
            since_seconds: seconds(link.since),
            cause: link.cause,
            peer_address: link.peer_address,
            rtt_seconds: seconds(link.rtt),
            silence_seconds: seconds(link.silence),
            checks: link.counts.total_checks(),
            errors: link.counts.total_errors(),
            connects: link.counts.connects(),
            retransmits: link.retransmits,
        }
    }
}
