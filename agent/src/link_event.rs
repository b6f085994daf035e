//! An event of the core with the link's name and wall-clock times, as logs and `statlink events`
//! show it.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use crate::{clock::WallTime, link};

/// What happened to a link, in wall-clock time.
pub(crate) type EventKind = link::EventKind<WallTime>;
/// One failed attempt, in wall-clock time.
pub(crate) type FailedAttempt = link::FailedAttempt<WallTime>;
/// An outage that has ended, in wall-clock time.
pub(crate) type EndedOutage = link::EndedOutage<WallTime>;

/// One event of one link.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LinkEvent {
    /// When it happened, as the kernel saw it.
    pub at: WallTime,
    /// When the agent knew of it.
    pub known_at: WallTime,
    /// The link.
    #[serde(flatten)]
    pub link: LinkName,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The name of a link.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct LinkName {
    /// The value of `peer`.
    pub peer: String,
    /// Namespace of the client's pod.
    pub namespace: String,
    /// Name of the client's pod.
    pub pod: String,
    /// Process id of the client.
    pub pid: u32,
}

/// Reads what [`Serialize`] writes. A derived implementation could not: `connect_failed` has the key `at`
/// twice, once as the event's and once as the attempt's, and serde accepts a key once. Both hold the
/// same moment, so whichever a [`Value`] keeps serves both.
impl<'de> Deserialize<'de> for LinkEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Times {
            at: WallTime,
            known_at: WallTime,
        }
        let line = Value::deserialize(deserializer)?;
        let Times { at, known_at } = Times::deserialize(&line).map_err(D::Error::custom)?;
        Ok(Self {
            at,
            known_at,
            link: LinkName::deserialize(&line).map_err(D::Error::custom)?,
            kind: EventKind::deserialize(&line).map_err(D::Error::custom)?,
        })
    }
}

/// The JSON that `statlink events --json` prints is a contract: byte for byte.
#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;
    use crate::link::{Cause, UnknownReason};

    /// The beginning of every line.
    const HEAD: &str = r#"{"at":1700000000.123457,"known_at":1700000000.25,"peer":"autoscaler","namespace":"knative-serving","pod":"activator-1","pid":4711,"event":"#;

    fn time(nanoseconds: u32) -> WallTime {
        WallTime(UNIX_EPOCH + Duration::new(1_700_000_000, nanoseconds))
    }

    fn v4() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 8080))
    }

    fn v6() -> SocketAddr {
        "[fd00::7]:8080".parse().unwrap()
    }

    fn full_attempt() -> FailedAttempt {
        FailedAttempt {
            at: time(120_000_000),
            peer_address: Some(v4()),
            cause: Cause::ConnectionRefused,
            proxy_address: Some(v6()),
            errno: Some(111),
            duration: Some(Duration::from_micros(1_250)),
        }
    }

    fn bare_attempt() -> FailedAttempt {
        FailedAttempt {
            at: time(0),
            peer_address: None,
            cause: Cause::Other,
            proxy_address: None,
            errno: None,
            duration: None,
        }
    }

    const FULL_ATTEMPT: &str = r#"{"at":1700000000.12,"peer_address":"10.0.0.1:8080","cause":"connection_refused","hop_address":"[fd00::7]:8080","errno":111,"duration":0.00125}"#;
    const BARE_ATTEMPT: &str = r#"{"at":1700000000.0,"cause":"_OTHER"}"#;

    fn line(kind: EventKind) -> String {
        let event = LinkEvent {
            at: time(123_456_789),
            known_at: time(250_000_000),
            link: LinkName {
                peer: "autoscaler".to_owned(),
                namespace: "knative-serving".to_owned(),
                pod: "activator-1".to_owned(),
                pid: 4711,
            },
            kind,
        };
        serde_json::to_string(&event).unwrap()
    }

    #[track_caller]
    fn pinned(kind: EventKind, rest: &str) {
        assert_eq!(line(kind), format!("{HEAD}{rest}"));
    }

    #[test]
    fn discovered_idle_unknown_and_ended_are_pinned() {
        pinned(EventKind::Discovered, r#""discovered"}"#);
        pinned(EventKind::Idle, r#""idle"}"#);
        let reason = UnknownReason::NoRoom;
        pinned(
            EventKind::Unknown { reason },
            r#""unknown","reason":"no_room"}"#,
        );
        pinned(EventKind::Ended, r#""ended"}"#);
    }

    #[test]
    fn connected_is_pinned() {
        pinned(
            EventKind::Connected {
                peer_address: v4(),
                duration: Some(Duration::from_nanos(12_345_678)),
            },
            r#""connected","peer_address":"10.0.0.1:8080","duration":0.012345678}"#,
        );
        pinned(
            EventKind::Connected {
                peer_address: v6(),
                duration: None,
            },
            r#""connected","peer_address":"[fd00::7]:8080"}"#,
        );
    }

    #[test]
    fn connect_failed_is_pinned() {
        pinned(
            EventKind::ConnectFailed(full_attempt()),
            r#""connect_failed","at":1700000000.12,"peer_address":"10.0.0.1:8080","cause":"connection_refused","hop_address":"[fd00::7]:8080","errno":111,"duration":0.00125}"#,
        );
        pinned(
            EventKind::ConnectFailed(bare_attempt()),
            r#""connect_failed","at":1700000000.0,"cause":"_OTHER"}"#,
        );
    }

    #[test]
    fn disconnected_is_pinned() {
        pinned(
            EventKind::Disconnected {
                peer_address: v4(),
                cause: Cause::PeerClosed,
                proxy_address: Some(v6()),
            },
            r#""disconnected","peer_address":"10.0.0.1:8080","cause":"peer_closed","hop_address":"[fd00::7]:8080"}"#,
        );
        pinned(
            EventKind::Disconnected {
                peer_address: v4(),
                cause: Cause::Stalled,
                proxy_address: None,
            },
            r#""disconnected","peer_address":"10.0.0.1:8080","cause":"stalled"}"#,
        );
    }

    #[test]
    fn reachable_is_pinned() {
        let outage = |attempts| EndedOutage {
            duration: Duration::from_millis(12_500),
            cause: Cause::NoAttempt,
            errors: 4,
            attempts,
        };
        pinned(
            EventKind::Reachable {
                outage: None,
                peer_address: v4(),
            },
            r#""reachable","peer_address":"10.0.0.1:8080"}"#,
        );
        pinned(
            EventKind::Reachable {
                outage: Some(outage(Vec::new())),
                peer_address: v4(),
            },
            r#""reachable","outage":{"duration":12.5,"cause":"no_attempt","errors":4,"attempts":[]},"peer_address":"10.0.0.1:8080"}"#,
        );
        pinned(
            EventKind::Reachable {
                outage: Some(outage(vec![full_attempt(), bare_attempt()])),
                peer_address: v4(),
            },
            &format!(
                r#""reachable","outage":{{"duration":12.5,"cause":"no_attempt","errors":4,"attempts":[{FULL_ATTEMPT},{BARE_ATTEMPT}]}},"peer_address":"10.0.0.1:8080"}}"#
            ),
        );
    }

    #[test]
    fn unreachable_is_pinned() {
        pinned(
            EventKind::Unreachable {
                cause: Cause::Other,
                peer_address: None,
                proxy_address: None,
                attempts: Vec::new(),
            },
            r#""unreachable","cause":"_OTHER","attempts":[]}"#,
        );
        pinned(
            EventKind::Unreachable {
                cause: Cause::Timeout,
                peer_address: Some(v4()),
                proxy_address: Some(v6()),
                attempts: vec![full_attempt(), bare_attempt()],
            },
            &format!(
                r#""unreachable","cause":"timeout","peer_address":"10.0.0.1:8080","hop_address":"[fd00::7]:8080","attempts":[{FULL_ATTEMPT},{BARE_ATTEMPT}]}}"#
            ),
        );
    }

    #[test]
    fn every_event_is_read_as_it_was_printed() {
        let outage = EndedOutage {
            duration: Duration::from_millis(12_500),
            cause: Cause::Timeout,
            errors: 4,
            attempts: vec![full_attempt(), bare_attempt()],
        };
        let failed = |attempt| {
            EventKind::ConnectFailed(FailedAttempt {
                // The attempt failed when the event happened.
                at: time(123_457_000),
                ..attempt
            })
        };
        for kind in [
            EventKind::Discovered,
            EventKind::Connected {
                peer_address: v4(),
                duration: None,
            },
            failed(full_attempt()),
            failed(bare_attempt()),
            EventKind::Disconnected {
                peer_address: v4(),
                cause: Cause::LocalClosed,
                proxy_address: Some(v6()),
            },
            EventKind::Reachable {
                outage: Some(outage),
                peer_address: v4(),
            },
            EventKind::Unreachable {
                cause: Cause::Timeout,
                peer_address: None,
                proxy_address: None,
                attempts: vec![bare_attempt()],
            },
            EventKind::Unknown {
                reason: UnknownReason::NotListed,
            },
            EventKind::Idle,
            EventKind::Ended,
        ] {
            let printed = line(kind);
            let read: LinkEvent = serde_json::from_str(&printed).expect(&printed);
            assert_eq!(serde_json::to_string(&read).unwrap(), printed);
        }
    }
}
