//! Which causes a check of a kind can end with, by itself or for a hop's failure: those that are
//! exported from the start, at 0.
//!
//! Anything else that is counted all the same is exported from when it is counted.

use crate::link::{Cause, CheckKind};

pub(super) const fn feasible(kind: CheckKind, cause: Cause) -> bool {
    match kind {
        CheckKind::Connect => connect(cause),
        CheckKind::Disconnect => disconnect(cause),
        // It repeats whatever ended the connection or the attempt before.
        CheckKind::Liveness => true,
    }
}

const fn connect(cause: Cause) -> bool {
    match cause {
        Cause::ConnectionRefused
        | Cause::Timeout
        | Cause::Cancelled
        | Cause::HostUnreachable
        | Cause::NetworkUnreachable
        | Cause::PermissionDenied
        | Cause::AddressUnavailable
        | Cause::ConnectionReset
        | Cause::HandshakeFailed
        | Cause::PeerClosed
        | Cause::Stalled
        | Cause::WrongPeer
        | Cause::Other => true,
        Cause::LocalClosed | Cause::Dns | Cause::NoAttempt => false,
    }
}

const fn disconnect(cause: Cause) -> bool {
    match cause {
        Cause::PeerClosed
        | Cause::LocalClosed
        | Cause::ConnectionReset
        | Cause::Stalled
        | Cause::ConnectionRefused
        | Cause::Timeout
        | Cause::HostUnreachable
        | Cause::NetworkUnreachable
        | Cause::PermissionDenied
        | Cause::AddressUnavailable
        | Cause::HandshakeFailed
        | Cause::WrongPeer
        | Cause::Other => true,
        Cause::Cancelled | Cause::Dns | Cause::NoAttempt => false,
    }
}
