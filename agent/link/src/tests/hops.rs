//! Proxies in the activator's pod.

use statlink_ebpf::{End, Phase};

use super::story::{Story, at, failed, peer, silent, unanswered};
use crate::{
    Cause,
    CheckKind::{Connect, Disconnect},
    FailedAttempt, HopEvent, Outcome, Status,
};

/// The connection to the proxy is established at 1 ms.
fn dialled() -> Story {
    let mut story = Story::begins();
    story.attempt(0, 1).established(1, 1);
    story
}

#[test]
fn a_failure_behind_the_proxy_is_the_cause_of_a_failed_handshake() {
    for (phase, how, cause) in [
        (Phase::Connecting, End::Refused, Cause::ConnectionRefused),
        (Phase::Connecting, End::TimedOut, Cause::Timeout),
        (Phase::Connecting, End::Unanswered, Cause::Timeout),
        (
            Phase::Connecting,
            End::HostUnreachable,
            Cause::HostUnreachable,
        ),
        (
            Phase::Connecting,
            End::NetworkUnreachable,
            Cause::NetworkUnreachable,
        ),
        (Phase::Connecting, End::Denied, Cause::PermissionDenied),
        (
            Phase::Connecting,
            End::AddressUnavailable,
            Cause::AddressUnavailable,
        ),
        (Phase::Established, End::Reset, Cause::ConnectionReset),
        (Phase::Established, End::PeerClosed, Cause::HandshakeFailed),
    ] {
        // The proxy says 503, and the activator closes.
        let mut story = dialled();
        story
            .hop(2, 1, HopEvent::Attempted)
            .hop_ended(3, 1, phase, how);
        story
            .ended(5, 1, Phase::Established, End::LocalClosed, Some(4))
            .until(400);
        story.has(Connect, 1, &[(cause, 1)]);
        assert_eq!(
            story.news(),
            [Outcome::ConnectFailed(FailedAttempt {
                hop: Some(peer(201)),
                ..failed(5, 1, cause, None, Some(5))
            })]
        );
    }
}

#[test]
fn a_proxy_that_answers_itself_has_failed_the_handshake() {
    let mut story = dialled();
    story
        .ended(5, 1, Phase::Established, End::LocalClosed, Some(4))
        .until(400);
    story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);
}

#[test]
fn a_proxy_whose_own_dial_goes_unanswered_has_timed_out() {
    // Whether the activator gives up, or the deadline passes first.
    let mut story = dialled();
    story.hop(2, 1, HopEvent::Attempted);
    story
        .ended(2_900, 1, Phase::Established, End::LocalClosed, None)
        .until(3_300);
    story.has(Connect, 1, &[(Cause::Timeout, 1)]);

    let mut story = dialled();
    story.hop(2, 1, HopEvent::Attempted).until(3_001);
    story.sampled(3_001, 1, unanswered());
    story.has(Connect, 1, &[(Cause::Timeout, 1)]);

    // A dial that is only just under way explains nothing.
    let mut story = dialled();
    story.hop(2_000, 1, HopEvent::Attempted);
    story
        .ended(2_900, 1, Phase::Established, End::LocalClosed, None)
        .until(3_300);
    story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);

    // One that is answered, or fails, between the activator's close and its verdict: too late.
    let (phase, how) = (Phase::Connecting, End::HostUnreachable);
    for late in [HopEvent::Established, HopEvent::Ended { phase, how }] {
        let mut story = dialled();
        story.hop(2, 1, HopEvent::Attempted);
        story
            .ended(2_900, 1, Phase::Established, End::LocalClosed, None)
            .hop(2_901, 1, late)
            .until(3_300);
        story.has(Connect, 1, &[(Cause::Timeout, 1)]);
    }

    // Nor does one of an earlier connection's, whose end was not told.
    let mut story = Story::begins();
    story.hop(0, 1, HopEvent::Attempted);
    story.attempt(2_000, 1).established(2_001, 1);
    story
        .ended(2_900, 1, Phase::Established, End::LocalClosed, None)
        .until(3_300);
    story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);

    // Nor one that was answered.
    let mut story = dialled();
    story.hop(2, 1, HopEvent::Attempted);
    story.hop(3, 1, HopEvent::Established).until(3_001);
    story.sampled(3_001, 1, unanswered());
    story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);
}

#[test]
fn a_loss_behind_the_proxy_is_the_cause_of_the_loss_before_it() {
    for (how, cause) in [
        (End::Reset, Cause::ConnectionReset),
        (End::PeerClosed, Cause::PeerClosed),
        (End::TimedOut, Cause::Stalled),
        (End::HostUnreachable, Cause::HostUnreachable),
    ] {
        let mut story = Story::begins();
        story.upgraded(0, 1).hop_ended(1_998, 1, Phase::Held, how);
        story.news();
        story.ended(2_000, 1, Phase::Held, End::PeerClosed, Some(1_000));
        story.has(Disconnect, 1, &[(cause, 1)]);
        assert_eq!(
            story.news(),
            [
                Outcome::Disconnected {
                    at: at(2_000),
                    peer: peer(1),
                    cause,
                    hop: Some(peer(201)),
                },
                Outcome::Unreachable {
                    at: at(2_000),
                    cause,
                    peer: Some(peer(1)),
                    hop: Some(peer(201)),
                    attempts: vec![],
                },
            ]
        );
    }
}

#[test]
fn what_failed_behind_the_proxy_since_the_peer_was_heard_explains_silence() {
    for (event, cause) in [
        (HopEvent::Stalled, Cause::Stalled),
        (
            HopEvent::Ended {
                phase: Phase::Held,
                how: End::Reset,
            },
            Cause::ConnectionReset,
        ),
    ] {
        let mut story = Story::begins();
        story.upgraded(0, 1).hop(1_000, 1, event);
        story.sampled(5_100, 1, silent(2, 3_300));
        story.has(Disconnect, 1, &[(cause, 1)]);
        let hop = story.news().into_iter().find_map(|told| match told {
            Outcome::Disconnected { hop, .. } => hop,
            Outcome::Sample(_)
            | Outcome::Connected { .. }
            | Outcome::ConnectFailed(_)
            | Outcome::Unreachable { .. }
            | Outcome::Reachable { .. }
            | Outcome::Idle { .. }
            | Outcome::Ended { .. } => None,
        });
        assert_eq!(hop, Some(peer(201)));
    }
}

#[test]
fn what_is_long_past_or_later_explains_nothing() {
    for time in [900, 2_001] {
        let mut story = Story::begins();
        story.upgraded(0, 1);
        if time < 2_000 {
            story.hop_ended(time, 1, Phase::Connecting, End::Refused);
        }
        story.ended(2_000, 1, Phase::Held, End::PeerClosed, Some(1_000));
        story.hop_ended(2_001, 1, Phase::Connecting, End::Refused);
        story.has(Disconnect, 1, &[(Cause::PeerClosed, 1)]);
    }
}

#[test]
fn what_ended_one_connection_does_not_explain_the_end_of_the_next() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .hop_ended(1_998, 1, Phase::Held, End::Reset);
    story.ended(2_000, 1, Phase::Held, End::PeerClosed, Some(1_000));
    story.upgraded(2_100, 2);
    story.ended(2_500, 2, Phase::Held, End::PeerClosed, Some(2_400));
    let causes = [(Cause::ConnectionReset, 1), (Cause::PeerClosed, 1)];
    story.has(Disconnect, 2, &causes);
}

#[test]
fn what_a_proxy_ends_itself_explains_nothing() {
    for how in [End::LocalClosed, End::Abandoned, End::Exiting] {
        let mut story = dialled();
        story.hop_ended(3, 1, Phase::Established, how);
        story
            .ended(5, 1, Phase::Established, End::PeerClosed, Some(4))
            .until(400);
        story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);
    }
}

#[test]
fn what_is_not_of_the_proxy_s_making_keeps_its_cause() {
    // Nobody took the connection.
    let mut story = Story::begins();
    story.hop_ended(0, 1, Phase::Connecting, End::TimedOut);
    story.refused(1, 1);
    story.has(Connect, 1, &[(Cause::ConnectionRefused, 1)]);
    // The activator closed it.
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .hop_ended(1_999, 1, Phase::Held, End::Reset);
    story
        .ended(2_000, 1, Phase::Held, End::LocalClosed, Some(1_000))
        .until(2_400);
    story.has(Disconnect, 1, &[(Cause::LocalClosed, 1)]);
}

#[test]
fn a_hop_never_makes_the_link_reachable() {
    let mut story = Story::begins();
    story.hop(0, 1, HopEvent::Attempted);
    story.hop(1, 1, HopEvent::Established).until(60_000);
    story.is_unreachable_since(5_000, Cause::NoAttempt);
    story.has(Connect, 0, &[]).has_connects(0);
    assert_eq!(story.link.peer_address(), None);
    assert_ne!(story.link.status(), Status::Reachable { since: None });
}

#[test]
fn the_outage_at_start_up_names_the_hop() {
    let mut story = dialled();
    story.hop_ended(3, 1, Phase::Connecting, End::Refused);
    story
        .ended(5, 1, Phase::Established, End::PeerClosed, Some(4))
        .until(5_000);
    let hop = story.news().into_iter().find_map(|told| match told {
        Outcome::Unreachable { hop, .. } => Some(hop),
        Outcome::Sample(_)
        | Outcome::Connected { .. }
        | Outcome::ConnectFailed(_)
        | Outcome::Disconnected { .. }
        | Outcome::Reachable { .. }
        | Outcome::Idle { .. }
        | Outcome::Ended { .. } => None,
    });
    assert_eq!(hop, Some(Some(peer(201))));
}
