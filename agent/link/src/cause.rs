//! Why a check decided against: the closed list behind `error.type`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The value of `error.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// RST to the SYN, or ECONNREFUSED however it came (ICMP included).
    ConnectionRefused,
    /// SYN unanswered: ETIMEDOUT, or given up by the client after at least one SYN
    /// retransmission.
    Timeout,
    /// Given up by the client before any retransmission.
    Cancelled,
    /// EHOSTUNREACH.
    HostUnreachable,
    /// ENETUNREACH.
    NetworkUnreachable,
    /// EPERM or EACCES: a policy refused connect().
    PermissionDenied,
    /// EADDRNOTAVAIL: out of local ports.
    AddressUnavailable,
    /// RST on an established connection.
    ConnectionReset,
    /// Established, but closed by either side, or 3 s gone, before upgraded.
    HandshakeFailed,
    /// The peer's FIN ended a live connection.
    PeerClosed,
    /// The activator ended a live connection, and is not terminating.
    LocalClosed,
    /// Established, but data goes unacknowledged or pings unanswered.
    Stalled,
    /// The destination is not an address of the autoscaler.
    WrongPeer,
    /// No attempt, and name lookups of the pod are seen to fail.
    Dns,
    /// A running activator with no connection and no attempt for 20 s.
    NoAttempt,
    /// Anything else, and what is not known.
    #[serde(rename = "_OTHER")]
    Other,
}

impl Cause {
    /// Every cause, in the order of its declaration.
    pub const ALL: [Self; 16] = [
        Self::ConnectionRefused,
        Self::Timeout,
        Self::Cancelled,
        Self::HostUnreachable,
        Self::NetworkUnreachable,
        Self::PermissionDenied,
        Self::AddressUnavailable,
        Self::ConnectionReset,
        Self::HandshakeFailed,
        Self::PeerClosed,
        Self::LocalClosed,
        Self::Stalled,
        Self::WrongPeer,
        Self::Dns,
        Self::NoAttempt,
        Self::Other,
    ];

    /// The attribute's value, byte for byte.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionRefused => "connection_refused",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::HostUnreachable => "host_unreachable",
            Self::NetworkUnreachable => "network_unreachable",
            Self::PermissionDenied => "permission_denied",
            Self::AddressUnavailable => "address_unavailable",
            Self::ConnectionReset => "connection_reset",
            Self::HandshakeFailed => "handshake_failed",
            Self::PeerClosed => "peer_closed",
            Self::LocalClosed => "local_closed",
            Self::Stalled => "stalled",
            Self::WrongPeer => "wrong_peer",
            Self::Dns => "dns",
            Self::NoAttempt => "no_attempt",
            Self::Other => "_OTHER",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
