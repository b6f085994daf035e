//! What `statlink status` shows, and the shape of its JSON.

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
    /// Hooks that are not attached. `statlink check` says what is lost without each.
    pub hooks_missing: Vec<String>,
    /// What did not reach the agent, for whatever reason: the sum of `losses`.
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

/// A pod that runs here without a process that is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnobservedStatus {
    /// The peer of its link.
    pub peer: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Why, as far as it can be told: a value of `statlink.unobserved.reason`.
    pub reason: String,
    /// The same in words.
    pub explanation: String,
}

/// The first line of the answer to `status`: the agent itself. A line follows for each link, so that
/// neither side has to hold more of the answer's text than one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusHead {
    /// Without links.
    pub status: Status,
    /// How many lines follow, each a [`LinkStatus`].
    pub links: usize,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LinkStatus {
    /// What identifies the link.
    #[serde(flatten)]
    pub name: LinkName,
    /// Whether it is up, for how long, and why not: `state`, `since_seconds`, `cause`, and where
    /// nobody can tell `unknown_reason`.
    #[serde(flatten, with = "state")]
    pub state: State<Duration>,
    /// Where the live connection, or else the last attempt, goes.
    pub peer_address: Option<SocketAddr>,
    /// Smoothed round-trip time of the live connection.
    pub rtt_seconds: Option<f64>,
    /// Time since the client last heard from the peer on a connection that exists.
    pub silence_seconds: Option<f64>,
    /// Checks, of all kinds.
    pub checks: u64,
    /// Checks that decided against.
    pub errors: u64,
    /// Connections that were upgraded.
    pub connects: u64,
    /// Segments that were retransmitted.
    pub retransmits: u64,
    /// Processes that the pod's client has been: more than one if its container was restarted.
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

/// A state as four fields side by side, `null` where a state has none.
mod state {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use crate::link::{Cause, State, UnknownReason};

    #[derive(Serialize, Deserialize)]
    struct Fields<W> {
        state: W,
        since_seconds: Option<f64>,
        cause: Option<Cause>,
        unknown_reason: Option<UnknownReason>,
    }

    pub(super) fn serialize<S: Serializer>(
        state: &State<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let (since, cause, unknown_reason) = match *state {
            State::Starting | State::Idle | State::Ended => (None, None, None),
            State::Reachable { since } => (since, None, None),
            State::Unreachable { since, cause } => (Some(since), Some(cause), None),
            State::Unknown { since, reason } => (Some(since), None, Some(reason)),
        };
        let fields = Fields {
            state: state.as_str(),
            since_seconds: since.map(|since| since.as_secs_f64()),
            cause,
            unknown_reason,
        };
        fields.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<State<Duration>, D::Error> {
        let fields = Fields::<String>::deserialize(deserializer)?;
        let since = fields.since_seconds.map(Duration::try_from_secs_f64);
        let since = since.transpose().map_err(D::Error::custom)?;
        Ok(match (fields.state.as_str(), since, fields.cause) {
            ("starting", _, _) => State::Starting,
            ("idle", _, _) => State::Idle,
            ("reachable", since, _) => State::Reachable { since },
            ("unreachable", Some(since), Some(cause)) => State::Unreachable { since, cause },
            ("ended", _, _) => State::Ended,
            ("unknown", Some(since), _) => State::Unknown {
                since,
                reason: fields
                    .unknown_reason
                    .ok_or_else(|| D::Error::custom("the state \"unknown\" lacks its reason"))?,
            },
            (state, _, _) => {
                let error = format!("state {state:?} is unknown, or lacks its start or its cause");
                return Err(D::Error::custom(error));
            }
        })
    }
}

/// The JSON that `statlink status --json` prints is a contract: byte for byte.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        link::{Cause, CheckKind, Counts, UnknownReason},
        snapshot::{AgentSnapshot, PodCounts, SeriesName},
    };

    const NOBODY_ELSE: &str =
        r#""unobserved":[],"clients_refused":{},"losses":{},"events_missed":{}"#;

    fn starting() -> LinkSnapshot {
        LinkSnapshot {
            name: SeriesName {
                peer: "autoscaler".to_owned(),
                namespace: "knative-serving".to_owned(),
                pod: "activator-1".to_owned(),
            },
            pid: 4711,
            state: State::Starting,
            peer_address: None,
            rtt: None,
            silence: None,
            total: PodCounts {
                lives: 1,
                ..PodCounts::default()
            },
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
            total: PodCounts {
                counts,
                retransmits: 7,
                lives: 2,
            },
            ..starting()
        }
    }

    fn json(links: Vec<LinkSnapshot>, agent: AgentSnapshot) -> String {
        json_of(&Snapshot {
            links,
            agent,
            ..Snapshot::default()
        })
    }

    fn json_of(snapshot: &Snapshot) -> String {
        let StatusHead { mut status, links } = StatusHead::from(snapshot);
        status.links = lines(snapshot).collect();
        assert_eq!(status.links.len(), links);
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
            format!("{head}{rest}}}],{NOBODY_ELSE}}}")
        );
    }

    #[test]
    fn the_agent_itself_is_pinned() {
        let agent = AgentSnapshot {
            hooks: vec![("tcp_connect", true), ("udp_sendmsg", false)],
            lost: vec![("ring_full", 3), ("malformed", 2), ("calls_full", 0)],
            missed_events: vec![("tcp_connect", 4), ("udp_sendmsg", 0)],
            ..AgentSnapshot::default()
        };
        assert_eq!(
            json(Vec::new(), agent),
            r#"{"version":"0.0.0","hooks_missing":["udp_sendmsg"],"records_lost":5,"links":[],"unobserved":[],"clients_refused":{},"losses":{"malformed":2,"ring_full":3},"events_missed":{"tcp_connect":4}}"#
        );
    }

    #[test]
    fn a_pod_that_is_not_observed_and_processes_without_a_link_are_pinned() {
        let json = json_of(&Snapshot {
            unobserved: vec![Unobserved {
                name: starting().name,
                since: Duration::from_secs(12),
                reason: "no_process",
                explanation: "it has no process named activator".to_owned(),
            }],
            agent: AgentSnapshot {
                refused: vec![("denied", 0), ("unplaced", 2)],
                ..AgentSnapshot::default()
            },
            ..Snapshot::default()
        });
        assert_eq!(
            json,
            r#"{"version":"0.0.0","hooks_missing":[],"records_lost":0,"links":[{"peer":"autoscaler","namespace":"knative-serving","pod":"activator-1","pid":0,"state":"unknown","since_seconds":12.0,"cause":null,"unknown_reason":"not_observed","peer_address":null,"rtt_seconds":null,"silence_seconds":null,"checks":0,"errors":0,"connects":0,"retransmits":0,"lives":0}],"unobserved":[{"peer":"autoscaler","namespace":"knative-serving","pod":"activator-1","reason":"no_process","explanation":"it has no process named activator"}],"clients_refused":{"unplaced":2},"losses":{},"events_missed":{}}"#
        );
    }

    #[test]
    fn a_link_in_each_state_is_pinned() {
        const UNKNOWN: &str = r#""peer_address":null,"rtt_seconds":null,"silence_seconds":null,"checks":0,"errors":0,"connects":0,"retransmits":0,"lives":1"#;
        const KNOWN: &str = r#""peer_address":"10.0.0.1:8080","rtt_seconds":0.00025,"silence_seconds":1.5,"checks":12,"errors":2,"connects":3,"retransmits":7,"lives":2"#;
        pinned(
            starting(),
            &format!(
                r#""state":"starting","since_seconds":null,"cause":null,"unknown_reason":null,{UNKNOWN}"#
            ),
        );
        pinned(
            LinkSnapshot {
                state: State::Idle,
                ..starting()
            },
            &format!(
                r#""state":"idle","since_seconds":null,"cause":null,"unknown_reason":null,{UNKNOWN}"#
            ),
        );
        pinned(
            LinkSnapshot {
                state: State::Reachable { since: None },
                ..full()
            },
            &format!(
                r#""state":"reachable","since_seconds":null,"cause":null,"unknown_reason":null,{KNOWN}"#
            ),
        );
        pinned(
            LinkSnapshot {
                state: State::Reachable {
                    since: Some(Duration::from_nanos(3_723_400_000_001)),
                },
                ..full()
            },
            &format!(
                r#""state":"reachable","since_seconds":3723.400000001,"cause":null,"unknown_reason":null,{KNOWN}"#
            ),
        );
        pinned(
            LinkSnapshot {
                state: State::Unreachable {
                    since: Duration::from_secs(5),
                    cause: Cause::Stalled,
                },
                ..full()
            },
            &format!(
                r#""state":"unreachable","since_seconds":5.0,"cause":"stalled","unknown_reason":null,{KNOWN}"#
            ),
        );
        pinned(
            LinkSnapshot {
                state: State::Unknown {
                    since: Duration::from_secs(5),
                    reason: UnknownReason::NoRoom,
                },
                ..full()
            },
            &format!(
                r#""state":"unknown","since_seconds":5.0,"cause":null,"unknown_reason":"no_room",{KNOWN}"#
            ),
        );
    }
}
