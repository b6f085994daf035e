//! The JSON that `statlink status --json` prints is a contract: byte for byte.

use super::*;
use crate::{
    link::{Cause, CheckKind, Counts, UnknownReason},
    snapshot::AgentSnapshot,
};

const NOBODY_ELSE: &str = r#""unobserved":[],"clients_refused":{},"losses":{},"events_missed":{}"#;

fn starting() -> LinkSnapshot {
    LinkSnapshot {
        total: PodCounts {
            lives: 1,
            ..PodCounts::default()
        },
        ..LinkSnapshot::starting("activator-1")
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
