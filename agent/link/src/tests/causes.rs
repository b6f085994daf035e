//! Tests: each end and its cause.

use statlink_ebpf::{End, Phase};

use super::story::Story;
use crate::{Cause, CheckKind};

#[test]
fn each_end_of_an_unanswered_syn_has_its_cause() {
    for (how, cause) in [
        (End::Refused, Cause::ConnectionRefused),
        (End::TimedOut, Cause::Timeout),
        (End::Unanswered, Cause::Timeout),
        (End::Abandoned, Cause::Cancelled),
        (End::Reset, Cause::ConnectionReset),
        (End::PeerClosed, Cause::Other),
        (End::LocalClosed, Cause::Other),
        (End::HostUnreachable, Cause::HostUnreachable),
        (End::NetworkUnreachable, Cause::NetworkUnreachable),
        (End::Denied, Cause::PermissionDenied),
        (End::AddressUnavailable, Cause::AddressUnavailable),
        (End::Exiting, Cause::Cancelled),
        (End::Other, Cause::Other),
    ] {
        let mut story = Story::begins();
        story
            .attempt(0, 1)
            .ended(10, 1, Phase::Connecting, how, None)
            .until(400);
        story.has(CheckKind::Connect, 1, &[(cause, 1)]);
    }
}

#[test]
fn each_end_of_an_unfinished_handshake_has_its_cause() {
    for (how, cause) in [
        (End::Refused, Cause::Other),
        (End::TimedOut, Cause::HandshakeFailed),
        (End::Unanswered, Cause::Other),
        (End::Abandoned, Cause::Other),
        (End::Reset, Cause::ConnectionReset),
        (End::PeerClosed, Cause::HandshakeFailed),
        (End::LocalClosed, Cause::HandshakeFailed),
        (End::Exiting, Cause::HandshakeFailed),
        (End::HostUnreachable, Cause::HostUnreachable),
        (End::NetworkUnreachable, Cause::NetworkUnreachable),
        (End::Denied, Cause::Other),
        (End::AddressUnavailable, Cause::Other),
        (End::Other, Cause::Other),
    ] {
        let mut story = Story::begins();
        story.attempt(0, 1).established(1, 1);
        story.ended(10, 1, Phase::Established, how, None).until(400);
        story.has(CheckKind::Connect, 1, &[(cause, 1)]);
    }
}

#[test]
fn each_end_of_a_live_connection_has_its_cause() {
    for (how, cause) in [
        (End::Refused, Cause::Other),
        (End::TimedOut, Cause::Stalled),
        (End::Unanswered, Cause::Other),
        (End::Abandoned, Cause::Other),
        (End::Reset, Cause::ConnectionReset),
        (End::PeerClosed, Cause::PeerClosed),
        (End::LocalClosed, Cause::LocalClosed),
        (End::Exiting, Cause::LocalClosed),
        (End::HostUnreachable, Cause::HostUnreachable),
        (End::NetworkUnreachable, Cause::NetworkUnreachable),
        (End::Denied, Cause::Other),
        (End::AddressUnavailable, Cause::Other),
        (End::Other, Cause::Other),
    ] {
        let mut story = Story::begins();
        story.upgraded(0, 1);
        story
            .ended(1_000, 1, Phase::Held, how, Some(2))
            .until(1_400);
        story.has(CheckKind::Disconnect, 1, &[(cause, 1)]);
        story.has(CheckKind::Connect, 1, &[]);
        story.is_unreachable_since(1_000, cause);
    }
}
