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
