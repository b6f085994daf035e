//! Causes: their list, the meaning of an end, the causes that each kind of check can have, and
//! those that a proxy may explain.
//!
//! To add a cause, add it to the list of [`Cause`], which defines its word, its place in
//! [`Cause::ALL`] and its JSON. The compiler then asks for it in every rule below.

use std::fmt;

use statlink_ebpf::{End, Phase};

use crate::{CheckKind, closed_list::closed_list};

closed_list! {
    /// Why a check decided against: the value of `error.type`, from a closed list.
    Cause {
        /// RST to the SYN, or ECONNREFUSED however it came (ICMP included).
        ConnectionRefused = "connection_refused",
        /// SYN unanswered: ETIMEDOUT, or given up by the client after at least one SYN
        /// retransmission.
        Timeout = "timeout",
        /// Given up by the client before any retransmission.
        Cancelled = "cancelled",
        /// EHOSTUNREACH.
        HostUnreachable = "host_unreachable",
        /// ENETUNREACH.
        NetworkUnreachable = "network_unreachable",
        /// EPERM or EACCES: a policy refused connect().
        PermissionDenied = "permission_denied",
        /// EADDRNOTAVAIL: out of local ports.
        AddressUnavailable = "address_unavailable",
        /// RST on an established connection.
        ConnectionReset = "connection_reset",
        /// ECONNABORTED: the node's own kernel was told to destroy the socket.
        ConnectionAborted = "connection_aborted",
        /// Established, but closed by either side, or 3 s gone, before upgraded.
        HandshakeFailed = "handshake_failed",
        /// The peer's FIN ended a live connection.
        PeerClosed = "peer_closed",
        /// The client ended a live connection, and is not terminating.
        LocalClosed = "local_closed",
        /// Established, but data goes unacknowledged or pings unanswered.
        Stalled = "stalled",
        /// The client itself has sent nothing and heard nothing for 12 s: it is frozen, starved of
        /// CPU or deadlocked.
        LocalStalled = "local_stalled",
        /// The destination is not an address of the autoscaler.
        WrongPeer = "wrong_peer",
        /// No attempt, and name lookups of the pod are seen to fail.
        Dns = "dns",
        /// A running client with no connection and no attempt for 20 s.
        NoAttempt = "no_attempt",
        /// Anything else, and unknown causes.
        Other = "_OTHER",
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === The meaning of an end ===

impl Cause {
    /// Why a connection in this phase ended.
    pub(crate) const fn of_end(phase: Phase, how: End) -> Self {
        match phase {
            Phase::Connecting => of_connecting(how),
            Phase::Established => of_handshaking(how),
            Phase::Held => of_live(how),
        }
    }
}

/// Why an attempt failed before its SYN was answered.
const fn of_connecting(how: End) -> Cause {
    match how {
        End::Refused => Cause::ConnectionRefused,
        End::TimedOut | End::Unanswered => Cause::Timeout,
        End::Abandoned | End::Exiting => Cause::Cancelled,
        // Not a RST to the SYN: that is ECONNREFUSED.
        End::Reset => Cause::ConnectionReset,
        End::HostUnreachable => Cause::HostUnreachable,
        End::NetworkUnreachable => Cause::NetworkUnreachable,
        End::Aborted => Cause::ConnectionAborted,
        End::Denied => Cause::PermissionDenied,
        End::AddressUnavailable => Cause::AddressUnavailable,
        End::PeerClosed | End::LocalClosed | End::Other => Cause::Other,
    }
}

/// Why an attempt failed that was established but not upgraded.
const fn of_handshaking(how: End) -> Cause {
    match how {
        End::Reset => Cause::ConnectionReset,
        End::PeerClosed | End::LocalClosed | End::Exiting | End::TimedOut => Cause::HandshakeFailed,
        End::HostUnreachable => Cause::HostUnreachable,
        End::NetworkUnreachable => Cause::NetworkUnreachable,
        End::Aborted => Cause::ConnectionAborted,
        End::Refused
        | End::Unanswered
        | End::Abandoned
        | End::Denied
        | End::AddressUnavailable
        | End::Other => Cause::Other,
    }
}

/// Why a live connection was lost.
const fn of_live(how: End) -> Cause {
    match how {
        End::Reset => Cause::ConnectionReset,
        End::PeerClosed => Cause::PeerClosed,
        End::LocalClosed | End::Exiting => Cause::LocalClosed,
        End::TimedOut => Cause::Stalled,
        End::HostUnreachable => Cause::HostUnreachable,
        End::NetworkUnreachable => Cause::NetworkUnreachable,
        End::Aborted => Cause::ConnectionAborted,
        End::Refused
        | End::Unanswered
        | End::Abandoned
        | End::Denied
        | End::AddressUnavailable
        | End::Other => Cause::Other,
    }
}

/// Whether this side ended it: the client, or the kernel because the client was killed.
pub(crate) const fn is_local(how: End) -> bool {
    match how {
        End::LocalClosed | End::Abandoned | End::Unanswered | End::Exiting => true,
        End::Refused
        | End::TimedOut
        | End::Reset
        | End::PeerClosed
        | End::HostUnreachable
        | End::NetworkUnreachable
        | End::Denied
        | End::AddressUnavailable
        | End::Aborted
        | End::Other => false,
    }
}

// === The causes of a check ===

impl Cause {
    /// Whether a check of this kind can have this cause, by itself or through a proxy's failure.
    /// Such pairs are exported from the start, at 0. Any other pair is exported once it is counted.
    pub const fn is_feasible(self, kind: CheckKind) -> bool {
        match kind {
            CheckKind::Connect => self.can_fail_an_attempt(),
            CheckKind::Disconnect => self.can_end_a_live_connection(),
            // It repeats the cause that ended the last connection or attempt.
            CheckKind::Liveness => true,
        }
    }

    const fn can_fail_an_attempt(self) -> bool {
        match self {
            Self::ConnectionRefused
            | Self::Timeout
            | Self::Cancelled
            | Self::HostUnreachable
            | Self::NetworkUnreachable
            | Self::PermissionDenied
            | Self::AddressUnavailable
            | Self::ConnectionReset
            | Self::ConnectionAborted
            | Self::HandshakeFailed
            | Self::PeerClosed
            | Self::Stalled
            | Self::WrongPeer
            | Self::Other => true,
            Self::LocalClosed | Self::LocalStalled | Self::Dns | Self::NoAttempt => false,
        }
    }

    const fn can_end_a_live_connection(self) -> bool {
        match self {
            Self::PeerClosed
            | Self::LocalClosed
            | Self::ConnectionReset
            | Self::ConnectionAborted
            | Self::Stalled
            | Self::LocalStalled
            | Self::ConnectionRefused
            | Self::Timeout
            | Self::HostUnreachable
            | Self::NetworkUnreachable
            | Self::PermissionDenied
            | Self::AddressUnavailable
            | Self::HandshakeFailed
            | Self::WrongPeer
            | Self::Other => true,
            Self::Cancelled | Self::Dns | Self::NoAttempt => false,
        }
    }
}

// === What a proxy may explain ===

/// From when on a proxy's failures may explain the failure of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyEvidence {
    /// From the beginning of the client's connection.
    SinceItBegan,
    /// From shortly before its end.
    JustBefore,
    /// From the moment the peer was last heard on it.
    SinceHeard,
}

impl Cause {
    /// Which of a proxy's failures may explain this cause; `None` if the client's own connection
    /// says everything.
    pub(crate) const fn proxy_evidence(self) -> Option<ProxyEvidence> {
        match self {
            Self::HandshakeFailed => Some(ProxyEvidence::SinceItBegan),
            Self::ConnectionReset | Self::PeerClosed => Some(ProxyEvidence::JustBefore),
            Self::Stalled => Some(ProxyEvidence::SinceHeard),
            Self::ConnectionRefused
            | Self::Timeout
            | Self::Cancelled
            | Self::HostUnreachable
            | Self::NetworkUnreachable
            | Self::PermissionDenied
            | Self::AddressUnavailable
            | Self::ConnectionAborted
            | Self::LocalClosed
            | Self::LocalStalled
            | Self::WrongPeer
            | Self::Dns
            | Self::NoAttempt
            | Self::Other => None,
        }
    }

    /// Why a proxy's connection failed; `None` if the proxy itself ended it, as it does when the
    /// client closes.
    pub(crate) fn of_a_proxy(phase: Phase, how: End) -> Option<Self> {
        // If the proxy gave up on a SYN, the SYN had gone unanswered.
        let own = is_local(how) && how != End::Unanswered;
        (!own).then(|| Self::of_end(phase, how))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_end_can_mean_is_feasible_for_its_check() {
        for how in End::ALL {
            for phase in Phase::ALL {
                let kind = match phase {
                    Phase::Connecting | Phase::Established => CheckKind::Connect,
                    Phase::Held => CheckKind::Disconnect,
                };
                let cause = Cause::of_end(phase, how);
                assert!(cause.is_feasible(kind), "{phase:?} {how:?}: {cause}");
                // A proxy's failure explains attempts and losses.
                if let Some(cause) = Cause::of_a_proxy(phase, how) {
                    assert!(cause.is_feasible(CheckKind::Connect), "{phase:?} {how:?}");
                    assert!(
                        cause.is_feasible(CheckKind::Disconnect),
                        "{phase:?} {how:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_no_connection_can_end_with_is_feasible_for_liveness_alone() {
        for cause in [Cause::Dns, Cause::NoAttempt] {
            let of = CheckKind::ALL.map(|kind| cause.is_feasible(kind));
            assert_eq!(of, [false, true, false], "{cause}");
        }
        assert!(!Cause::LocalClosed.is_feasible(CheckKind::Connect));
        assert!(!Cause::Cancelled.is_feasible(CheckKind::Disconnect));
    }

    #[test]
    fn each_cause_has_a_word_of_its_own() {
        let mut words: Vec<_> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Cause::ALL.len());
    }
}
