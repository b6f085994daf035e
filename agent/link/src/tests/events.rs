//! Tests of events: their times and their JSON. The agent's output is pinned, byte for byte, by the
//! tests of the code that prints it.

use super::story::{at, ms, peer};
use crate::{
    Cause, EndedOutage, Event, EventKind, FailedAttempt, Output, State, UnknownReason,
    time::Timestamp,
};

fn attempt(at: Timestamp) -> FailedAttempt {
    FailedAttempt {
        at,
        peer_address: Some(peer(1)),
        cause: Cause::Timeout,
        proxy_address: Some(peer(2)),
        errno: Some(110),
        duration: Some(ms(1_500)),
    }
}

/// One event of each kind, with every field set.
fn events() -> [EventKind; 8] {
    [
        EventKind::Discovered,
        EventKind::Connected {
            peer_address: peer(1),
            duration: Some(ms(250)),
        },
        EventKind::ConnectFailed(attempt(at(1))),
        EventKind::Disconnected {
            peer_address: peer(1),
            cause: Cause::Stalled,
            proxy_address: Some(peer(2)),
        },
        EventKind::Reachable {
            outage: Some(EndedOutage {
                duration: ms(12_000),
                cause: Cause::PeerClosed,
                errors: 7,
                attempts: vec![attempt(at(2)), attempt(at(3))],
            }),
            peer_address: peer(1),
        },
        EventKind::Unreachable {
            cause: Cause::PeerClosed,
            peer_address: Some(peer(1)),
            proxy_address: Some(peer(2)),
            attempts: vec![attempt(at(4))],
        },
        EventKind::Idle,
        EventKind::Ended,
    ]
}

#[test]
fn every_time_of_an_event_is_converted_and_nothing_else() {
    let later = |time: Timestamp| time + ms(1_000);
    for (kind, there_and_back) in events().into_iter().zip(events()) {
        let event = Event { at: at(5), kind };
        let moved = event.clone().map_time(later);
        assert_eq!(moved.at, at(1_005));
        let times = |kind: &EventKind| match kind {
            EventKind::ConnectFailed(failed) => vec![failed.at],
            EventKind::Reachable { outage, .. } => {
                let outage = outage.as_ref().unwrap();
                outage.attempts.iter().map(|failed| failed.at).collect()
            }
            EventKind::Unreachable { attempts, .. } => {
                attempts.iter().map(|failed| failed.at).collect()
            }
            EventKind::Discovered
            | EventKind::Connected { .. }
            | EventKind::Disconnected { .. }
            | EventKind::Unknown { .. }
            | EventKind::Idle
            | EventKind::Ended => Vec::new(),
        };
        let expected: Vec<_> = times(&event.kind).into_iter().map(later).collect();
        assert_eq!(times(&moved.kind), expected);
        let back = moved.map_time(|time| time - ms(1_000));
        assert_eq!(back.kind, there_and_back);
    }
}

#[test]
fn what_is_written_is_read_again() {
    for kind in events() {
        let written = serde_json::to_string(&kind.map_time(Timestamp::as_nanos)).unwrap();
        let read: EventKind<u64> = serde_json::from_str(&written).expect(&written);
        assert_eq!(serde_json::to_string(&read).unwrap(), written);
    }
}

#[test]
fn durations_are_seconds_and_a_missing_one_is_none() {
    let connected: EventKind<u64> = serde_json::from_str(
        r#"{"event":"connected","peer_address":"10.96.0.1:8080","duration":0.25}"#,
    )
    .unwrap();
    assert_eq!(
        connected,
        EventKind::Connected {
            peer_address: peer(1),
            duration: Some(ms(250)),
        }
    );
    let bare: FailedAttempt<u64> = serde_json::from_str(r#"{"at":1,"cause":"timeout"}"#).unwrap();
    assert_eq!((bare.duration, bare.peer_address), (None, None));
    let negative = r#"{"event":"connected","peer_address":"10.96.0.1:8080","duration":-1.0}"#;
    assert!(serde_json::from_str::<EventKind<u64>>(negative).is_err());
}

#[test]
fn each_state_has_its_word_and_its_value() {
    let states = [
        (State::Starting, "starting", None),
        (State::Idle, "idle", None),
        (
            State::Reachable { since: Some(at(1)) },
            "reachable",
            Some(true),
        ),
        (State::Reachable { since: None }, "reachable", Some(true)),
        (
            State::Unreachable {
                since: at(1),
                cause: Cause::Dns,
            },
            "unreachable",
            Some(false),
        ),
        (
            State::Unknown {
                since: at(1),
                reason: UnknownReason::NoRoom,
            },
            "unknown",
            None,
        ),
        (State::Ended, "ended", None),
    ];
    for (state, word, reachable) in states {
        assert_eq!((state.as_str(), state.reachable()), (word, reachable));
        let ago = state.map_time(|since| at(5).saturating_since(since));
        assert_eq!(ago.as_str(), word);
        match ago {
            State::Reachable { since: Some(since) }
            | State::Unreachable { since, .. }
            | State::Unknown { since, .. } => {
                assert_eq!(since, ms(4));
            }
            State::Reachable { since: None } | State::Starting | State::Idle | State::Ended => {}
        }
    }
}

#[test]
fn an_output_that_is_an_event_carries_its_time() {
    let ended = Output::event(at(3), EventKind::Ended);
    let event = Event {
        at: at(3),
        kind: EventKind::Ended,
    };
    assert_eq!(ended, Output::Event(event));
}
