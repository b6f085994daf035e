//! Events: what happens to a link, in the one form that the core, logs and `statlink events` share.
//!
//! `T` is the type of its times: [`Timestamp`] in the core, wall-clock time for output
//! ([`Event::map_time`]). The JSON is a contract with readers of `statlink events --json`.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Cause, UnknownReason, time::Timestamp};

/// One thing that happened to a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<T = Timestamp> {
    /// When it happened, possibly long before it was known.
    pub at: T,
    /// What happened.
    pub kind: EventKind<T>,
}

/// What happened to a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind<T = Timestamp> {
    /// The client was discovered. The driver creates this event, because it creates the link.
    Discovered,
    /// A connection reached *upgraded*; dated by the peer's answer.
    Connected {
        /// The connection's destination.
        peer_address: SocketAddr,
        /// From connect() to the answer. Absent when connect() was not seen, or when the attempt
        /// had already been reported as failed, with its duration.
        #[serde(with = "seconds::optional")]
        #[serde(skip_serializing_if = "Option::is_none", default)]
        duration: Option<Duration>,
    },
    /// An attempt failed.
    ConnectFailed(FailedAttempt<T>),
    /// A live connection was lost.
    Disconnected {
        /// The connection's destination.
        peer_address: SocketAddr,
        /// Why.
        cause: Cause,
        /// The destination of the proxy's connection whose failure is the cause.
        #[serde(rename = "hop_address")]
        #[serde(skip_serializing_if = "Option::is_none", default)]
        proxy_address: Option<SocketAddr>,
    },
    /// The link became reachable; this ends an outage if there was one.
    Reachable {
        /// The outage that this ends; absent when the link is reachable for the first time.
        #[serde(skip_serializing_if = "Option::is_none")]
        outage: Option<EndedOutage<T>>,
        /// The live connection's destination.
        peer_address: SocketAddr,
    },
    /// The link is not reachable: an outage began, or the cause of one became known.
    Unreachable {
        /// Why; [`Cause::Other`] while the cause is not known.
        cause: Cause,
        /// The destination of the lost connection or the last attempt.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        peer_address: Option<SocketAddr>,
        /// The destination of the proxy's connection whose failure is the cause.
        #[serde(rename = "hop_address")]
        #[serde(skip_serializing_if = "Option::is_none", default)]
        proxy_address: Option<SocketAddr>,
        /// The last attempts since the link was reachable, oldest first; at most
        /// [`ATTEMPTS_REPORTED`](crate::ATTEMPTS_REPORTED).
        attempts: Vec<FailedAttempt<T>>,
    },
    /// The agent can no longer tell whether the link is reachable. An earlier state, such as an
    /// outage, continues once it can tell again.
    Unknown {
        /// Why not.
        reason: UnknownReason,
    },
    /// Nothing is left that could be reachable: the client has let go of every target, or the
    /// remaining ones are in their grace.
    Idle,
    /// The process ended, as it may.
    Ended,
}

/// An outage that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedOutage<T = Timestamp> {
    /// From the loss of the last live connection, or the end of the start-up grace, to the answer
    /// on the next connection.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// The cause at its onset, or the first that became known.
    pub cause: Cause,
    /// Errors of every kind since the link was reachable before, or since its discovery.
    pub errors: u64,
    /// The last failed attempts in that time, oldest first; at most
    /// [`ATTEMPTS_REPORTED`](crate::ATTEMPTS_REPORTED).
    pub attempts: Vec<FailedAttempt<T>>,
}

/// One failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt<T = Timestamp> {
    /// When it failed.
    pub at: T,
    /// The attempt's destination; absent when its records were lost.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer_address: Option<SocketAddr>,
    /// Why it failed.
    pub cause: Cause,
    /// The destination of the proxy's connection whose failure is the cause.
    #[serde(rename = "hop_address")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proxy_address: Option<SocketAddr>,
    /// The errno behind it, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub errno: Option<u16>,
    /// From connect() to its failure; absent when connect() was not seen.
    #[serde(with = "seconds::optional")]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration: Option<Duration>,
}

impl<T> Event<T> {
    /// The same event, with each time converted.
    pub fn map_time<U>(self, mut convert: impl FnMut(T) -> U) -> Event<U> {
        Event {
            at: convert(self.at),
            kind: self.kind.map_time(convert),
        }
    }
}

impl<T> EventKind<T> {
    /// The same kind, with each time converted.
    pub fn map_time<U>(self, mut convert: impl FnMut(T) -> U) -> EventKind<U> {
        match self {
            Self::Discovered => EventKind::Discovered,
            Self::Connected {
                peer_address,
                duration,
            } => EventKind::Connected {
                peer_address,
                duration,
            },
            Self::ConnectFailed(failed) => EventKind::ConnectFailed(failed.map_time(convert)),
            Self::Disconnected {
                peer_address,
                cause,
                proxy_address,
            } => EventKind::Disconnected {
                peer_address,
                cause,
                proxy_address,
            },
            Self::Reachable {
                outage,
                peer_address,
            } => EventKind::Reachable {
                outage: outage.map(|outage| outage.map_time(convert)),
                peer_address,
            },
            Self::Unreachable {
                cause,
                peer_address,
                proxy_address,
                attempts,
            } => EventKind::Unreachable {
                cause,
                peer_address,
                proxy_address,
                attempts: all(attempts, &mut convert),
            },
            Self::Unknown { reason } => EventKind::Unknown { reason },
            Self::Idle => EventKind::Idle,
            Self::Ended => EventKind::Ended,
        }
    }
}

impl<T> EndedOutage<T> {
    fn map_time<U>(self, mut convert: impl FnMut(T) -> U) -> EndedOutage<U> {
        EndedOutage {
            duration: self.duration,
            cause: self.cause,
            errors: self.errors,
            attempts: all(self.attempts, &mut convert),
        }
    }
}

impl<T> FailedAttempt<T> {
    fn map_time<U>(self, mut convert: impl FnMut(T) -> U) -> FailedAttempt<U> {
        FailedAttempt {
            at: convert(self.at),
            peer_address: self.peer_address,
            cause: self.cause,
            proxy_address: self.proxy_address,
            errno: self.errno,
            duration: self.duration,
        }
    }
}

fn all<T, U>(
    attempts: Vec<FailedAttempt<T>>,
    convert: &mut impl FnMut(T) -> U,
) -> Vec<FailedAttempt<U>> {
    attempts
        .into_iter()
        .map(|failed| failed.map_time(&mut *convert))
        .collect()
}

/// Durations as seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(d)?).map_err(D::Error::custom)
    }

    pub(super) mod optional {
        use super::*;

        pub(in super::super) fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            s: S,
        ) -> Result<S::Ok, S::Error> {
            match duration {
                Some(duration) => super::serialize(duration, s),
                None => s.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            d: D,
        ) -> Result<Option<Duration>, D::Error> {
            let seconds = Option::<f64>::deserialize(d)?;
            let duration = seconds.map(Duration::try_from_secs_f64).transpose();
            duration.map_err(D::Error::custom)
        }
    }
}
