//! What the agent reports as it happens: the one shape behind the logs and `statlink events`.

use std::{net::SocketAddr, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::link::Cause;

/// One thing worth telling about one link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When it happened, by the kernel's account.
    #[serde(with = "unix_seconds")]
    pub at: SystemTime,
    /// When the agent knew.
    #[serde(with = "unix_seconds")]
    pub known_at: SystemTime,
    /// The link.
    #[serde(flatten)]
    pub link: LinkName,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// Whose link, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LinkName {
    /// The value of `peer`.
    pub peer: String,
    /// Namespace of the activator's pod.
    pub namespace: String,
    /// Name of the activator's pod.
    pub pod: String,
    /// Process id of the activator.
    pub pid: u32,
}

/// What happened to a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The activator was discovered.
    Discovered,
    /// A connection reached *upgraded*.
    Connected {
        /// The peer's address.
        peer_address: SocketAddr,
        /// From connect() to the peer's answer, seconds; absent when connect() was not seen.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        duration: Option<f64>,
    },
    /// An attempt failed.
    ConnectFailed(Attempt),
    /// A live connection was lost.
    Disconnected {
        /// The peer's address.
        peer_address: SocketAddr,
        /// Why.
        cause: Cause,
        /// Where the connection of a proxy in the pod went whose failure is the cause.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        hop_address: Option<SocketAddr>,
    },
    /// The link is reachable; ends an outage if there was one.
    Reachable {
        /// The outage that this ends.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        outage: Option<EndedOutage>,
        /// The peer's address.
        peer_address: SocketAddr,
    },
    /// The link is not reachable: an outage began, or the cause of one became known.
    Unreachable {
        /// Why; `_OTHER` while it is not known.
        cause: Cause,
        /// Where the lost connection or the last attempt went.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        peer_address: Option<SocketAddr>,
        /// Where the connection of a proxy in the pod went whose failure is the cause.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        hop_address: Option<SocketAddr>,
        /// The last attempts, oldest first.
        attempts: Vec<Attempt>,
    },
    /// The dialler has let go of all that it was connected to, as it may.
    Idle,
    /// The activator ended: an expected end.
    Ended,
}

/// An outage that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndedOutage {
    /// Its length, seconds.
    pub duration: f64,
    /// The cause at its onset, or the first that became known.
    pub cause: Cause,
    /// Errors of every kind since the link was reachable before.
    pub errors: u64,
    /// The last attempts that failed, oldest first.
    pub attempts: Vec<Attempt>,
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it failed.
    #[serde(with = "unix_seconds")]
    pub at: SystemTime,
    /// Where it went; absent when its records were lost.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer_address: Option<SocketAddr>,
    /// Why it failed.
    pub cause: Cause,
    /// Where the connection of a proxy in the pod went whose failure is the cause.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hop_address: Option<SocketAddr>,
    /// The errno behind it, where there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub errno: Option<u16>,
    /// From connect() to its failure, seconds; absent when connect() was not seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration: Option<f64>,
}

/// Times as seconds since the Unix epoch, to the microsecond.
mod unix_seconds {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        s.serialize_f64((since.as_secs_f64() * 1e6).round() / 1e6)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SystemTime, D::Error> {
        let seconds = f64::deserialize(d)?;
        let since = Duration::try_from_secs_f64(seconds).map_err(D::Error::custom)?;
        Ok(UNIX_EPOCH + since)
    }
}

/// The JSON that `statlink events --json` prints is a contract: byte for byte.
#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// What every line begins with.
    const HEAD: &str = r#"{"at":1700000000.123457,"known_at":1700000000.25,"peer":"autoscaler","namespace":"knative-serving","pod":"activator-1","pid":4711,"event":"#;

    fn time(nanoseconds: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(1_700_000_000, nanoseconds)
    }

    fn v4() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 8080))
    }

    fn v6() -> SocketAddr {
        "[fd00::7]:8080".parse().unwrap()
    }

    fn full_attempt() -> Attempt {
        Attempt {
            at: time(120_000_000),
            peer_address: Some(v4()),
            cause: Cause::ConnectionRefused,
            hop_address: Some(v6()),
            errno: Some(111),
            duration: Some(Duration::from_micros(1_250).as_secs_f64()),
        }
    }

    fn bare_attempt() -> Attempt {
        Attempt {
            at: time(0),
            peer_address: None,
            cause: Cause::Other,
            hop_address: None,
            errno: None,
            duration: None,
        }
    }

    const FULL_ATTEMPT: &str = r#"{"at":1700000000.12,"peer_address":"10.0.0.1:8080","cause":"connection_refused","hop_address":"[fd00::7]:8080","errno":111,"duration":0.00125}"#;
    const BARE_ATTEMPT: &str = r#"{"at":1700000000.0,"cause":"_OTHER"}"#;

    fn line(what: What) -> String {
        let report = Report {
            at: time(123_456_789),
            known_at: time(250_000_000),
            link: LinkName {
                peer: "autoscaler".to_owned(),
                namespace: "knative-serving".to_owned(),
                pod: "activator-1".to_owned(),
                pid: 4711,
            },
            what,
        };
        serde_json::to_string(&report).unwrap()
    }

    #[track_caller]
    fn pinned(what: What, rest: &str) {
        assert_eq!(line(what), format!("{HEAD}{rest}"));
    }

    #[test]
    fn discovered_idle_and_ended_are_pinned() {
        pinned(What::Discovered, r#""discovered"}"#);
        pinned(What::Idle, r#""idle"}"#);
        pinned(What::Ended, r#""ended"}"#);
    }

    #[test]
    fn connected_is_pinned() {
        pinned(
            What::Connected {
                peer_address: v4(),
                duration: Some(Duration::from_nanos(12_345_678).as_secs_f64()),
            },
            r#""connected","peer_address":"10.0.0.1:8080","duration":0.012345678}"#,
        );
        pinned(
            What::Connected {
                peer_address: v6(),
                duration: None,
            },
            r#""connected","peer_address":"[fd00::7]:8080"}"#,
        );
    }

    #[test]
    fn connect_failed_is_pinned() {
        pinned(
            What::ConnectFailed(full_attempt()),
            r#""connect_failed","at":1700000000.12,"peer_address":"10.0.0.1:8080","cause":"connection_refused","hop_address":"[fd00::7]:8080","errno":111,"duration":0.00125}"#,
        );
        pinned(
            What::ConnectFailed(bare_attempt()),
            r#""connect_failed","at":1700000000.0,"cause":"_OTHER"}"#,
        );
    }

    #[test]
    fn disconnected_is_pinned() {
        pinned(
            What::Disconnected {
                peer_address: v4(),
                cause: Cause::PeerClosed,
                hop_address: Some(v6()),
            },
            r#""disconnected","peer_address":"10.0.0.1:8080","cause":"peer_closed","hop_address":"[fd00::7]:8080"}"#,
        );
        pinned(
            What::Disconnected {
                peer_address: v4(),
                cause: Cause::Stalled,
                hop_address: None,
            },
            r#""disconnected","peer_address":"10.0.0.1:8080","cause":"stalled"}"#,
        );
    }

    #[test]
    fn reachable_is_pinned() {
        let outage = |attempts| EndedOutage {
            duration: Duration::from_millis(12_500).as_secs_f64(),
            cause: Cause::NoAttempt,
            errors: 4,
            attempts,
        };
        pinned(
            What::Reachable {
                outage: None,
                peer_address: v4(),
            },
            r#""reachable","peer_address":"10.0.0.1:8080"}"#,
        );
        pinned(
            What::Reachable {
                outage: Some(outage(Vec::new())),
                peer_address: v4(),
            },
            r#""reachable","outage":{"duration":12.5,"cause":"no_attempt","errors":4,"attempts":[]},"peer_address":"10.0.0.1:8080"}"#,
        );
        pinned(
            What::Reachable {
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
            What::Unreachable {
                cause: Cause::Other,
                peer_address: None,
                hop_address: None,
                attempts: Vec::new(),
            },
            r#""unreachable","cause":"_OTHER","attempts":[]}"#,
        );
        pinned(
            What::Unreachable {
                cause: Cause::Timeout,
                peer_address: Some(v4()),
                hop_address: Some(v6()),
                attempts: vec![full_attempt(), bare_attempt()],
            },
            &format!(
                r#""unreachable","cause":"timeout","peer_address":"10.0.0.1:8080","hop_address":"[fd00::7]:8080","attempts":[{FULL_ATTEMPT},{BARE_ATTEMPT}]}}"#
            ),
        );
    }

    #[test]
    fn a_line_that_was_printed_is_read_again() {
        let outage = EndedOutage {
            duration: 12.5,
            cause: Cause::Timeout,
            errors: 4,
            attempts: vec![full_attempt(), bare_attempt()],
        };
        for what in [
            What::Discovered,
            What::Connected {
                peer_address: v4(),
                duration: None,
            },
            What::Disconnected {
                peer_address: v4(),
                cause: Cause::LocalClosed,
                hop_address: Some(v6()),
            },
            What::Reachable {
                outage: Some(outage),
                peer_address: v4(),
            },
            What::Unreachable {
                cause: Cause::Timeout,
                peer_address: None,
                hop_address: None,
                attempts: vec![bare_attempt()],
            },
        ] {
            let printed = line(what);
            let read: Report = serde_json::from_str(&printed).expect(&printed);
            assert_eq!(serde_json::to_string(&read).unwrap(), printed);
        }
    }
}
