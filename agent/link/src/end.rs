//! What an end that the kernel tells of means for a link: the one place that maps [`End`] to
//! [`Cause`].

use statlink_ebpf::End;

use super::Cause;

/// Why an attempt failed whose SYN had not been answered.
pub(super) const fn of_connecting(how: End) -> Cause {
    match how {
        End::Refused => Cause::ConnectionRefused,
        End::TimedOut | End::Unanswered => Cause::Timeout,
        End::Abandoned | End::Exiting => Cause::Cancelled,
        // Not a RST to the SYN: that is ECONNREFUSED.
        End::Reset => Cause::ConnectionReset,
        End::HostUnreachable => Cause::HostUnreachable,
        End::NetworkUnreachable => Cause::NetworkUnreachable,
        End::Denied => Cause::PermissionDenied,
        End::AddressUnavailable => Cause::AddressUnavailable,
        End::PeerClosed | End::LocalClosed | End::Other => Cause::Other,
    }
}

/// Why an attempt failed that was established, but not upgraded.
pub(super) const fn of_handshaking(how: End) -> Cause {
    match how {
        End::Reset => Cause::ConnectionReset,
        End::PeerClosed | End::LocalClosed | End::Exiting | End::TimedOut => Cause::HandshakeFailed,
        End::HostUnreachable => Cause::HostUnreachable,
        End::NetworkUnreachable => Cause::NetworkUnreachable,
        End::Refused
        | End::Unanswered
        | End::Abandoned
        | End::Denied
        | End::AddressUnavailable
        | End::Other => Cause::Other,
    }
}

/// Why a live connection was lost.
pub(super) const fn of_live(how: End) -> Cause {
    match how {
        End::Reset => Cause::ConnectionReset,
        End::PeerClosed => Cause::PeerClosed,
        End::LocalClosed | End::Exiting => Cause::LocalClosed,
        End::TimedOut => Cause::Stalled,
        End::HostUnreachable => Cause::HostUnreachable,
        End::NetworkUnreachable => Cause::NetworkUnreachable,
        End::Refused
        | End::Unanswered
        | End::Abandoned
        | End::Denied
        | End::AddressUnavailable
        | End::Other => Cause::Other,
    }
}

/// Whether this side ended it: the activator, or the kernel because the activator was killed.
pub(super) const fn is_local(how: End) -> bool {
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
        | End::Other => false,
    }
}
