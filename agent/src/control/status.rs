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

/// The JSON that `statlink status --json` prints is a contract: byte for byte.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        link::{CheckKind, Counts},
        snapshot::AgentSnapshot,
    };

    fn starting() -> LinkSnapshot {
        LinkSnapshot {
            id: 1,
            peer: "autoscaler".to_owned(),
            namespace: "knative-serving".to_owned(),
            pod: "activator-1".to_owned(),
            pid: 4711,
            reachable: None,
            idle: false,
            since: None,
            cause: None,
            peer_address: None,
            rtt: None,
            silence: None,
            counts: Counts::default(),
            retransmits: 0,
        }
    }

    fn full() -> LinkSnapshot {
        let mut counts = Counts::default();
        counts.pass(CheckKind::Liveness, 10);
        counts.fail(CheckKind::Connect, Cause::Timeout, 2);
        counts.connect(3);
        LinkSnapshot {
            peer_address: Some(([10, 0, 0, 1], 8080).into()),
            rtt: Some(Duration::from_micros(250)),
            silence: Some(Duration::from_millis(1_500)),
            counts,
            retransmits: 7,
            ..starting()
        }
    }

    fn json(links: Vec<LinkSnapshot>, agent: AgentSnapshot) -> String {
        let mut status = Status::from(&Snapshot { links, agent });
        status.version = "0.0.0".to_owned();
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
        json
    }

    /// One link, as it is printed between the status's brackets.
    #[track_caller]
    fn pinned(link: LinkSnapshot, rest: &str) {
        let head = r#"{"version":"0.0.0","hooks_missing":[],"records_lost":0,"links":[{"peer":"autoscaler","namespace":"knative-serving","pod":"activator-1","pid":4711,"#;
        assert_eq!(
            json(vec![link], AgentSnapshot::default()),
            format!("{head}{rest}}}]}}")
        );
    }

    #[test]
    fn the_agent_itself_is_pinned() {
        let agent = AgentSnapshot {
            hooks: vec![("tcp_connect", true), ("udp_sendmsg", false)],
            lost: vec![("ring_full", 3), ("malformed", 2)],
            ..AgentSnapshot::default()
        };
        assert_eq!(
            json(Vec::new(), agent),
            r#"{"version":"0.0.0","hooks_missing":["udp_sendmsg"],"records_lost":5,"links":[]}"#
        );
    }

    #[test]
    fn a_link_in_each_state_is_pinned() {
        const UNKNOWN: &str = r#""peer_address":null,"rtt_seconds":null,"silence_seconds":null,"checks":0,"errors":0,"connects":0,"retransmits":0"#;
        const KNOWN: &str = r#""peer_address":"10.0.0.1:8080","rtt_seconds":0.00025,"silence_seconds":1.5,"checks":12,"errors":2,"connects":3,"retransmits":7"#;
        pinned(
            starting(),
            &format!(r#""state":"starting","since_seconds":null,"cause":null,{UNKNOWN}"#),
        );
        pinned(
            LinkSnapshot {
                idle: true,
                ..starting()
            },
            &format!(r#""state":"idle","since_seconds":null,"cause":null,{UNKNOWN}"#),
        );
        pinned(
            LinkSnapshot {
                reachable: Some(true),
                ..full()
            },
            &format!(r#""state":"reachable","since_seconds":null,"cause":null,{KNOWN}"#),
        );
        pinned(
            LinkSnapshot {
                reachable: Some(true),
                since: Some(Duration::from_nanos(3_723_400_000_001)),
                ..full()
            },
            &format!(r#""state":"reachable","since_seconds":3723.400000001,"cause":null,{KNOWN}"#),
        );
        pinned(
            LinkSnapshot {
                reachable: Some(false),
                since: Some(Duration::from_secs(5)),
                cause: Some(Cause::Stalled),
                ..full()
            },
            &format!(r#""state":"unreachable","since_seconds":5.0,"cause":"stalled",{KNOWN}"#),
        );
    }
}
