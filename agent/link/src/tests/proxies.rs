//! Tests of proxies in the activator's pod.

use statlink_ebpf::{End, Phase};

use super::story::{Story, at, event, failed, failure, peer, silent, unanswered};
use crate::{
    Cause,
    CheckKind::{Connect, Disconnect},
    EventKind, FailedAttempt, ProxyEvent, Sample, State,
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
        // The proxy answers 503, and the activator closes.
        let mut story = dialled();
        story
            .proxy(2, 1, ProxyEvent::Attempted)
            .proxy_ended(3, 1, phase, how);
        story
            .ended(5, 1, Phase::Established, End::LocalClosed, Some(4))
            .until(400);
        story.has(Connect, 1, &[(cause, 1)]);
        assert_eq!(
            story.news(),
            [failure(FailedAttempt {
                proxy_address: Some(peer(201)),
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
    // The activator gives up, or the deadline passes first.
    let mut story = dialled();
    story.proxy(2, 1, ProxyEvent::Attempted);
    story
        .ended(2_900, 1, Phase::Established, End::LocalClosed, None)
        .until(3_300);
    story.has(Connect, 1, &[(Cause::Timeout, 1)]);

    let mut story = dialled();
    story.proxy(2, 1, ProxyEvent::Attempted).until(3_001);
    story.sampled(3_001, 1, unanswered());
    story.has(Connect, 1, &[(Cause::Timeout, 1)]);

    // A dial that has only just begun explains nothing.
    let mut story = dialled();
    story.proxy(2_000, 1, ProxyEvent::Attempted);
    story
        .ended(2_900, 1, Phase::Established, End::LocalClosed, None)
        .until(3_300);
    story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);

    // A connection that is answered or fails between the activator's close and its verdict comes
    // too late.
    let (phase, how) = (Phase::Connecting, End::HostUnreachable);
    for late in [ProxyEvent::Established, ProxyEvent::Ended { phase, how }] {
        let mut story = dialled();
        story.proxy(2, 1, ProxyEvent::Attempted);
        story
            .ended(2_900, 1, Phase::Established, End::LocalClosed, None)
            .proxy(2_901, 1, late)
            .until(3_300);
        story.has(Connect, 1, &[(Cause::Timeout, 1)]);
    }

    // Nor does an earlier connection whose end was not recorded.
    let mut story = Story::begins();
    story.proxy(0, 1, ProxyEvent::Attempted);
    story.attempt(2_000, 1).established(2_001, 1);
    story
        .ended(2_900, 1, Phase::Established, End::LocalClosed, None)
        .until(3_300);
    story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);

    // Nor one that was answered.
    let mut story = dialled();
    story.proxy(2, 1, ProxyEvent::Attempted);
    story.proxy(3, 1, ProxyEvent::Established).until(3_001);
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
        story.upgraded(0, 1).proxy_ended(1_998, 1, Phase::Held, how);
        story.news();
        story.ended(2_000, 1, Phase::Held, End::PeerClosed, Some(1_000));
        story.has(Disconnect, 1, &[(cause, 1)]);
        assert_eq!(
            story.news(),
            [
                event(
                    at(2_000),
                    EventKind::Disconnected {
                        peer_address: peer(1),
                        cause,
                        proxy_address: Some(peer(201)),
                    }
                ),
                event(
                    at(2_000),
                    EventKind::Unreachable {
                        cause,
                        peer_address: Some(peer(1)),
                        proxy_address: Some(peer(201)),
                        attempts: vec![],
                    }
                ),
            ]
        );
    }
}

#[test]
fn what_failed_behind_the_proxy_since_the_peer_was_heard_explains_silence() {
    for (event, cause) in [
        (ProxyEvent::Stalled, Cause::Stalled),
        (
            ProxyEvent::Ended {
                phase: Phase::Held,
                how: End::Reset,
            },
            Cause::ConnectionReset,
        ),
    ] {
        let mut story = Story::begins();
        story.upgraded(0, 1).proxy(1_000, 1, event);
        story.sampled(5_100, 1, silent(2, 3_300));
        story.has(Disconnect, 1, &[(cause, 1)]);
        let proxy = story.news().into_iter().find_map(|told| match told.kind {
            EventKind::Disconnected { proxy_address, .. } => proxy_address,
            EventKind::Discovered
            | EventKind::Connected { .. }
            | EventKind::ConnectFailed(_)
            | EventKind::Unreachable { .. }
            | EventKind::Reachable { .. }
            | EventKind::Unknown { .. }
            | EventKind::Idle
            | EventKind::Ended => None,
        });
        assert_eq!(proxy, Some(peer(201)));
    }
}

#[test]
fn what_is_long_past_or_later_explains_nothing() {
    for time in [900, 2_001] {
        let mut story = Story::begins();
        story.upgraded(0, 1);
        if time < 2_000 {
            story.proxy_ended(time, 1, Phase::Connecting, End::Refused);
        }
        story.ended(2_000, 1, Phase::Held, End::PeerClosed, Some(1_000));
        story.proxy_ended(2_001, 1, Phase::Connecting, End::Refused);
        story.has(Disconnect, 1, &[(Cause::PeerClosed, 1)]);
    }
}

#[test]
fn what_is_dialled_after_the_answer_is_nobodys_hop() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    let refused = ProxyEvent::Ended {
        phase: Phase::Connecting,
        how: End::Refused,
    };
    story.dialled_by_another(350, 1, Some(300), refused);
    story.ended(400, 1, Phase::Held, End::PeerClosed, Some(390));
    story
        .until(800)
        .has(Disconnect, 1, &[(Cause::PeerClosed, 1)]);
}

#[test]
fn what_ended_one_connection_does_not_explain_the_end_of_the_next() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .proxy_ended(1_998, 1, Phase::Held, End::Reset);
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
        story.proxy_ended(3, 1, Phase::Established, how);
        story
            .ended(5, 1, Phase::Established, End::PeerClosed, Some(4))
            .until(400);
        story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);
    }
}

#[test]
fn what_is_not_of_the_proxy_s_making_keeps_its_cause() {
    // No proxy accepted the connection.
    let mut story = Story::begins();
    story.proxy_ended(0, 1, Phase::Connecting, End::TimedOut);
    story.refused(1, 1);
    story.has(Connect, 1, &[(Cause::ConnectionRefused, 1)]);
    // The activator closed it.
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .proxy_ended(1_999, 1, Phase::Held, End::Reset);
    story
        .ended(2_000, 1, Phase::Held, End::LocalClosed, Some(1_000))
        .until(2_400);
    story.has(Disconnect, 1, &[(Cause::LocalClosed, 1)]);
}

#[test]
fn a_hop_never_makes_the_link_reachable() {
    let mut story = Story::begins();
    story.proxy(0, 1, ProxyEvent::Attempted);
    story.proxy(1, 1, ProxyEvent::Established).until(60_000);
    story.is_unreachable_since(5_000, Cause::NoAttempt);
    story.has(Connect, 0, &[]).has_connects(0);
    assert_eq!(story.link.peer_address(), None);
    assert_ne!(story.link.state(), State::Reachable { since: None });
}

#[test]
fn the_outage_at_start_up_names_the_proxy() {
    let mut story = dialled();
    story.proxy_ended(3, 1, Phase::Connecting, End::Refused);
    story
        .ended(5, 1, Phase::Established, End::PeerClosed, Some(4))
        .until(5_000);
    let proxy = story.news().into_iter().find_map(|told| match told.kind {
        EventKind::Unreachable { proxy_address, .. } => Some(proxy_address),
        EventKind::Discovered
        | EventKind::Connected { .. }
        | EventKind::ConnectFailed(_)
        | EventKind::Disconnected { .. }
        | EventKind::Reachable { .. }
        | EventKind::Unknown { .. }
        | EventKind::Idle
        | EventKind::Ended => None,
    });
    assert_eq!(proxy, Some(Some(peer(201))));
}

#[test]
fn a_proxy_s_dial_that_was_answered_meanwhile_explains_what_ended_before() {
    let mut story = dialled();
    story.proxy(100, 1, ProxyEvent::Attempted);
    story.ended(1_900, 1, Phase::Established, End::LocalClosed, None);
    // The close settles until 2,200, and is judged by the state at 1,900.
    story.proxy(2_000, 1, ProxyEvent::Established);
    story.proxy(2_100, 2, ProxyEvent::Attempted);
    story.until(2_300).has(Connect, 1, &[(Cause::Timeout, 1)]);
}

/// Another process in the pod dials an address without a listener, at any moment of a live
/// connection.
#[test]
fn a_curl_to_somebody_else_explains_nothing() {
    let refused = ProxyEvent::Ended {
        phase: Phase::Connecting,
        how: End::Refused,
    };
    for (how, cause) in [
        (End::Reset, Cause::ConnectionReset),
        (End::PeerClosed, Cause::PeerClosed),
    ] {
        let mut story = Story::begins();
        story
            .upgraded(0, 1)
            .dialled_by_another(1_990, 1, Some(1_989), refused)
            .ended(2_000, 1, Phase::Held, how, Some(1_000));
        story.has(Disconnect, 1, &[(cause, 1)]);
    }
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story.dialled_by_another(4_000, 1, Some(3_999), refused);
    story.sampled(5_100, 1, silent(2, 3_300));
    story.has(Disconnect, 1, &[(Cause::Stalled, 1)]);
    // Also during a dial that nobody answers.
    let mut story = dialled();
    story.dialled_by_another(1_001, 1, Some(1_000), refused);
    story
        .ended(2_900, 1, Phase::Established, End::LocalClosed, None)
        .until(3_300);
    story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);
}

/// A curl that happens to dial when a proxy would.
#[test]
fn in_a_pod_without_a_proxy_nobody_explains_anything() {
    let refused = ProxyEvent::Ended {
        phase: Phase::Connecting,
        how: End::Refused,
    };
    for (looped, cause) in [
        (None, Cause::ConnectionRefused),
        (Some(true), Cause::ConnectionRefused),
        (Some(false), Cause::HandshakeFailed),
    ] {
        let mut story = dialled();
        // Unless nobody has looked.
        if let Some(looped) = looped {
            let unanswered = Sample {
                looped,
                ..unanswered()
            };
            story.sampled(22, 1, unanswered);
        }
        story.dialled_by_another(51, 1, Some(50), refused);
        story
            .ended(2_900, 1, Phase::Established, End::LocalClosed, None)
            .until(3_300);
        story.has(Connect, 1, &[(cause, 1)]);
    }
}

#[test]
fn where_the_peer_s_addresses_are_known_only_a_dial_to_one_of_them_explains() {
    for (addresses, cause) in [
        ([peer(1).ip(), peer(201).ip()], Cause::ConnectionRefused),
        ([peer(1).ip(), peer(9).ip()], Cause::HandshakeFailed),
    ] {
        // Losing the API changes nothing about this.
        for is_away in [false, true] {
            let mut story = Story::begins();
            story.input(0, crate::Input::PeerAddresses(Some(addresses.into())));
            if is_away {
                story.input(0, crate::Input::PeerAddresses(None));
            }
            story.attempt(0, 1).established(1, 1);
            story.proxy_ended(3, 1, Phase::Connecting, End::Refused);
            story
                .ended(5, 1, Phase::Established, End::PeerClosed, Some(4))
                .until(400);
            story.has(Connect, 1, &[(cause, 1)]);
        }
    }
}

#[test]
fn what_both_were_there_before_the_agent_belong_together() {
    let lost = ProxyEvent::Ended {
        phase: Phase::Held,
        how: End::Reset,
    };
    for (attempted, cause) in [
        (None, Cause::ConnectionReset),
        (Some(1_000), Cause::PeerClosed),
    ] {
        let mut story = Story::begins();
        story
            .found(0, 1, None, Phase::Established)
            .sampled(1, 1, silent(-1_000, -1_001))
            .sampled(300, 1, silent(-1_000, -1_001));
        story.dialled_by_another(1_999, 1, attempted, lost);
        story.ended_with(2_000, 1, None, Phase::Held, End::PeerClosed, 0, Some(1_500));
        story.has(Disconnect, 1, &[(cause, 1)]);
    }
}
