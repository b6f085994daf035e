//! Tests: from connect() to upgraded or failed.

use statlink_ebpf::{End, Phase};

use super::story::{Story, at, event, failed, failure, id, ms, peer, unanswered, well};
use crate::{
    Cause,
    CheckKind::{Connect, Disconnect},
    EventKind, Input, LinkMachine, Sample, State,
};

#[test]
fn an_answered_connection_that_is_held_is_upgraded_and_dated_by_the_answer() {
    let mut story = Story::begins();
    story.upgraded(100, 1).is_reachable_since(102);
    story.has(Connect, 1, &[]).has_connects(1);
    assert_eq!(
        story.news(),
        [
            event(
                at(102),
                EventKind::Connected {
                    peer_address: peer(1),
                    duration: Some(ms(2)),
                }
            ),
            event(
                at(102),
                EventKind::Reachable {
                    peer_address: peer(1),
                    outage: None,
                }
            ),
        ]
    );
    assert_eq!(story.link.live(), Some((id(1), Some(ms(1)))));
    assert_eq!(LinkMachine::rtt(&story.link), Some(ms(1)));
    assert_eq!(LinkMachine::live(&story.link), [id(1)]);
    assert_eq!(story.link.heard(), Some(at(102)));
}

#[test]
fn the_first_look_is_after_20_ms_then_every_100_ms_until_the_answer() {
    let mut story = Story::begins();
    story.attempt(0, 1).established(1, 1);
    assert_eq!(story.link.next_deadline(), Some(at(21)));
    story.until(21);
    assert_eq!(story.asked(), [id(1)]);
    story.sampled(22, 1, unanswered());
    assert_eq!(story.link.next_deadline(), Some(at(122)));
}

#[test]
fn a_dial_that_takes_long_is_looked_at_should_its_record_not_come() {
    let mut story = Story::begins();
    story.attempt(0, 1).until(2_500);
    assert_eq!(story.asked(), [id(1); 2]);
    story.sampled(2_501, 1, well(1_020));
    story.is_reachable_since(1_020).has_connects(1);

    let mut story = Story::begins();
    story.attempt(0, 1).until(1_000);
    story.input(
        1_001,
        Input::Sampled {
            connection: id(1),
            sample: None,
        },
    );
    story.until(2_001).has(Connect, 1, &[(Cause::Other, 1)]);
}

#[test]
fn a_dial_whose_syn_is_unanswered_goes_on() {
    let mut story = Story::begins();
    let waiting = Sample {
        established: false,
        ..unanswered()
    };
    story.attempt(0, 1).until(1_000).sampled(1_001, 1, waiting);
    story.until(9_000).has(Connect, 0, &[]);
}

#[test]
fn a_pong_within_the_hold_is_not_the_first_answer() {
    let mut story = Story::begins();
    story.attempt(0, 1).established(1, 1).until(21);
    story.sampled(21, 1, well(2));
    assert_eq!(story.link.next_deadline(), Some(at(252)));
    // The activator's ticker is older than the connection, so its first ping may come at any
    // moment.
    let pong = Some(120);
    story.ended(300, 1, Phase::Held, End::Reset, pong);
    story
        .has(Connect, 1, &[])
        .has(Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
    assert_eq!(story.link.counts().connects(), 1);
}

#[test]
fn a_sample_that_does_not_come_is_asked_again() {
    let mut story = Story::begins();
    story.attempt(0, 1).established(1, 1).until(230);
    assert_eq!(story.asked(), [id(1); 3]);
}

#[test]
fn one_late_look_suffices_when_it_shows_both_the_answer_and_the_hold() {
    let mut story = Story::begins();
    story
        .attempt(0, 1)
        .established(1, 1)
        .sampled(900, 1, well(10));
    story.is_reachable_since(10);
}

#[test]
fn an_answer_cannot_be_older_than_the_establishment() {
    let mut story = Story::begins();
    story
        .attempt(0, 1)
        .established(20, 1)
        .sampled(900, 1, well(10));
    story.is_reachable_since(20);
}

#[test]
fn a_refused_upgrade_is_closed_at_once_and_fails_the_handshake() {
    let mut story = Story::begins();
    story.attempt(0, 1).established(1, 1);
    story
        .ended(5, 1, Phase::Established, End::PeerClosed, Some(4))
        .until(1_000);
    assert_eq!(story.link.state(), State::Starting);
    story
        .has(Connect, 1, &[(Cause::HandshakeFailed, 1)])
        .has_connects(0);
    assert_eq!(
        story.news(),
        [failure(failed(5, 1, Cause::HandshakeFailed, None, Some(5)))]
    );
}

#[test]
fn three_seconds_without_an_answer_fail_the_handshake_once() {
    let mut story = Story::begins();
    story.attempt(0, 1).established(1, 1);
    story.sampled(2_950, 1, unanswered()).until(3_001);
    assert!(
        story.asked().contains(&id(1)),
        "the deadline is a moment to look"
    );
    story.sampled(3_001, 1, unanswered());
    story.sampled(3_501, 1, unanswered());
    story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);
    story
        .ended(3_600, 1, Phase::Established, End::LocalClosed, None)
        .until(4_500);
    story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);
    assert_eq!(
        story.news(),
        [failure(failed(
            3_001,
            1,
            Cause::HandshakeFailed,
            None,
            Some(3_001)
        ))]
    );
}

#[test]
fn an_answer_after_the_handshake_failed_makes_a_connect_but_no_second_check() {
    let mut story = Story::begins();
    story
        .attempt(0, 1)
        .established(1, 1)
        .sampled(3_050, 1, unanswered());
    story
        .sampled(3_550, 1, well(3_200))
        .is_reachable_since(3_200);
    story
        .has(Connect, 1, &[(Cause::HandshakeFailed, 1)])
        .has_connects(1);
    let connected = story.news().into_iter().find_map(|event| {
        if let EventKind::Connected { duration, .. } = event.kind {
            Some(duration)
        } else {
            None
        }
    });
    assert_eq!(
        connected,
        Some(None),
        "its duration was told at the failure"
    );
}

#[test]
fn a_late_answer_is_looked_for_as_often_as_it_must_be_held() {
    let mut story = Story::begins();
    story.attempt(0, 1).established(1, 1);
    story.sampled(3_050, 1, unanswered());
    story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);
    // Answered at 3,060 ms and held from then on: only a look in between distinguishes that from a
    // close.
    assert_eq!(story.link.next_deadline(), Some(at(3_300)));
    story.until(3_300).sampled(3_300, 1, well(3_060));
    story.ended(3_320, 1, Phase::Held, End::PeerClosed, Some(3_320));
    story.has_connects(1);
    story.has(Disconnect, 1, &[(Cause::PeerClosed, 1)]);
}

#[test]
fn one_that_a_look_did_not_find_is_looked_for_again_at_its_cadence() {
    let mut story = Story::begins();
    story.upgraded(0, 1).sampled_gone(1_000, 1);
    story.asked();
    assert_eq!(story.until(1_499).asked(), []);
    assert_eq!(story.until(1_500).asked(), [id(1)]);
}

#[test]
fn an_end_shows_that_a_connection_had_been_upgraded_before_anyone_looked() {
    let mut story = Story::begins();
    story.attempt(0, 1).established(1, 1);
    story.ended(400, 1, Phase::Held, End::Reset, Some(100));
    story.has(Connect, 1, &[]).has_connects(1);
    story.has(Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
    story.is_unreachable_since(400, Cause::ConnectionReset);
}

#[test]
fn a_last_word_just_before_the_end_hides_no_long_life() {
    let mut story = Story::begins();
    story.ended_with(
        9_000,
        1,
        Some(100),
        Phase::Held,
        End::PeerClosed,
        0,
        Some(8_999),
    );
    story.has(Connect, 1, &[]).has_connects(1);
    story.has(Disconnect, 1, &[(Cause::PeerClosed, 1)]);
}

#[test]
fn a_look_that_showed_no_answer_bounds_when_it_came() {
    // Longer than any client waits, but its peer sends only once, at the end.
    let mut story = Story::begins();
    story.found(1_800, 1, Some(-1_000), Phase::Established);
    story.sampled(4_700, 1, unanswered());
    story.ended(4_750, 1, Phase::Held, End::PeerClosed, Some(4_750));
    story
        .has(Connect, 1, &[(Cause::HandshakeFailed, 1)])
        .has_connects(0);

    // The same, without a look.
    let mut story = Story::begins();
    story.found(1_800, 1, Some(-1_000), Phase::Established);
    story.ended(4_750, 1, Phase::Held, End::PeerClosed, Some(4_750));
    story.has(Connect, 1, &[]).has_connects(1);
}

#[test]
fn a_slow_refusal_is_no_upgrade() {
    let mut story = Story::begins();
    story.attempt(0, 1).established(1, 1);
    story.ended(700, 1, Phase::Held, End::PeerClosed, Some(690));
    story
        .has(Connect, 1, &[(Cause::HandshakeFailed, 1)])
        .has_connects(0);
}

#[test]
fn an_end_of_which_nothing_else_was_told_is_counted_by_what_it_tells() {
    let mut story = Story::begins();
    story.ended(100, 1, Phase::Connecting, End::Refused, None);
    story.ended(200, 2, Phase::Established, End::Reset, None);
    story.has(
        Connect,
        2,
        &[(Cause::ConnectionRefused, 1), (Cause::ConnectionReset, 1)],
    );
    story.ended(300, 3, Phase::Held, End::PeerClosed, None);
    story.has_connects(1);
    story.has(Disconnect, 1, &[(Cause::PeerClosed, 1)]);
}

#[test]
fn a_failure_before_any_socket_counts_like_any_other() {
    let mut story = Story::begins();
    for time in [10, 20] {
        let mut connection = id(0);
        connection.sock = 0;
        connection.born = at(time);
        story.input(
            time,
            Input::Ended {
                connection,
                peer_address: peer(1),
                attempted: Some(at(time)),
                phase: Phase::Connecting,
                how: End::NetworkUnreachable,
                errno: 101,
                heard: None,
            },
        );
    }
    story.until(1_000);
    story.has(Connect, 2, &[(Cause::NetworkUnreachable, 2)]);
    assert_eq!(story.link.peer_address(), Some(peer(1)));
}

#[test]
fn what_is_told_of_a_connection_after_its_end_is_ignored() {
    let mut story = Story::begins();
    story
        .refused(10, 1)
        .established(12, 1)
        .attempt(10, 1)
        .refused(10, 1);
    story
        .found(13, 1, None, Phase::Established)
        .sampled(14, 1, well(13));
    assert_eq!(story.link.connections().count(), 0);
    story.has(Connect, 1, &[(Cause::ConnectionRefused, 1)]);
}

#[test]
fn an_attempt_told_after_its_establishment_is_no_news() {
    let mut story = Story::begins();
    story
        .established(1, 1)
        .attempt(0, 1)
        .sampled(300, 1, well(2));
    story.is_reachable_since(2).has(Connect, 1, &[]);
}

#[test]
fn a_connection_older_than_the_agent_is_reachable_but_counts_as_no_connect() {
    let mut story = Story::begins();
    story.found(0, 1, None, Phase::Established).until(0);
    assert_eq!(story.asked(), [id(1)]);
    story.sampled(1, 1, well(-2_000));
    assert_eq!(story.link.state(), State::Reachable { since: None });
    story.has(Connect, 0, &[]).has_connects(0);
    assert_eq!(
        story.news(),
        [event(
            at(-2_000),
            EventKind::Reachable {
                peer_address: peer(1),
                outage: None
            }
        )]
    );
    story.ended_with(900, 1, None, Phase::Held, End::PeerClosed, 0, Some(899));
    story
        .has(Disconnect, 1, &[(Cause::PeerClosed, 1)])
        .has(Connect, 0, &[]);
    story.is_unreachable_since(900, Cause::PeerClosed);
}

#[test]
fn an_older_connection_just_heard_is_confirmed_250_ms_later() {
    let mut story = Story::begins();
    story
        .found(0, 1, None, Phase::Established)
        .sampled(1, 1, well(-100));
    assert_eq!(story.link.state(), State::Starting);
    assert_eq!(story.link.next_deadline(), Some(at(150)));
    story.sampled(150, 1, well(-100));
    assert_eq!(story.link.state(), State::Reachable { since: None });
}

#[test]
fn an_attempt_under_way_at_the_start_is_counted_when_it_is_decided() {
    let mut story = Story::begins();
    story.found(0, 1, None, Phase::Connecting);
    story.ended_with(500, 1, None, Phase::Connecting, End::Refused, 111, None);
    story
        .until(530)
        .has(Connect, 1, &[(Cause::ConnectionRefused, 1)]);
}

#[test]
fn a_found_connection_whose_attempt_was_seen_is_a_connect() {
    let mut story = Story::begins();
    story
        .found(400, 1, Some(10), Phase::Established)
        .sampled(401, 1, well(12));
    story
        .is_reachable_since(12)
        .has(Connect, 1, &[])
        .has_connects(1);
}

#[test]
fn a_connection_that_stays_gone_is_over_and_its_late_end_ignored() {
    let mut story = Story::begins();
    story.upgraded(0, 1).sampled_gone(3_600, 1).until(4_599);
    story.is_reachable_since(2);
    story.until(4_600).is_unreachable_since(3_600, Cause::Other);
    story.has(Disconnect, 1, &[(Cause::Other, 1)]);
    story
        .ended(3_599, 1, Phase::Held, End::PeerClosed, None)
        .until(4_900);
    story.has(Disconnect, 1, &[(Cause::Other, 1)]);
}

#[test]
fn a_look_that_missed_a_connection_does_no_harm() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .sampled_gone(3_600, 1)
        .sampled(4_100, 1, well(3_330))
        .until(4_900);
    story.is_reachable_since(2);
}

#[test]
fn no_more_than_1024_are_tracked_and_the_oldest_is_not_dropped_in_silence() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    for n in 2..=1_100 {
        story.attempt(300, n);
    }
    assert_eq!(story.link.connections().count(), 1_024);
    story
        .is_reachable_since(2)
        .has(Connect, 77, &[(Cause::Other, 76)]);
}

#[test]
fn an_older_connection_known_by_its_end_was_live_until_the_peer_was_last_heard() {
    let mut story = Story::begins();
    story.ended_with(2_000, 1, None, Phase::Held, End::PeerClosed, 0, Some(1_900));
    story.has(Connect, 0, &[]);
    let times: Vec<_> = story.news().iter().map(|event| event.at).collect();
    assert_eq!(times, [at(1_900), at(2_000), at(2_000)], "up, lost, down");
    story.is_unreachable_since(2_000, Cause::PeerClosed);
}

#[test]
fn an_older_connection_that_ends_before_it_was_looked_at_twice_was_live() {
    let mut story = Story::begins();
    story.found(0, 1, None, Phase::Established).until(0);
    story.sampled(1, 1, well(-100));
    story.ended_with(100, 1, None, Phase::Held, End::PeerClosed, 0, Some(50));
    story.has(Connect, 0, &[]);
    story.has(Disconnect, 1, &[(Cause::PeerClosed, 1)]);
}
