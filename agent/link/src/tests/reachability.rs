//! Tests of grace, outages, liveness, idleness, and the expected end.

use statlink_ebpf::{End, Phase};

use super::story::{Story, at, back, event, failed, failure, outage, peer, well};
use crate::{
    Cause,
    CheckKind::{Connect, Disconnect, Liveness},
    EventKind, LinkMachine, State,
};

#[test]
fn an_activator_without_a_connection_is_unreachable_when_the_grace_ends() {
    let mut story = Story::begins();
    story.until(4_999);
    assert_eq!(story.link.state(), State::Starting);
    story.until(5_000).is_unreachable_since(5_000, Cause::Other);
    story.has(Liveness, 1, &[(Cause::Other, 1)]);
    assert_eq!(
        story.news(),
        [event(
            at(5_000),
            EventKind::Unreachable {
                cause: Cause::Other,
                proxy_address: None,
                peer_address: None,
                attempts: vec![]
            }
        )]
    );
}

#[test]
fn what_a_link_shows_is_what_it_is() {
    let mut story = Story::begins();
    story.refused(10, 1);
    let link: &dyn LinkMachine = &story.link;
    assert_eq!(link.never_reachable(), Some(Cause::ConnectionRefused));
    assert_eq!(link.peer_address(), Some(peer(1)));
    assert_eq!(link.heard(), None);
    story.upgraded(100, 2);
    let link: &dyn LinkMachine = &story.link;
    assert_eq!(link.never_reachable(), None);
    assert_eq!(link.peer_address(), Some(peer(2)));
    assert_eq!(link.heard(), Some(at(102)));
}

#[test]
fn attempts_that_failed_in_the_grace_explain_the_outage() {
    let mut story = Story::begins();
    for n in 1..=4 {
        story.refused(i64::try_from(n).unwrap_or(0) * 1_000, n);
    }
    story.news();
    story.until(5_000);
    assert_eq!(
        story.news(),
        [event(
            at(5_000),
            EventKind::Unreachable {
                cause: Cause::ConnectionRefused,
                proxy_address: None,
                peer_address: Some(peer(4)),
                attempts: [2, 3, 4]
                    .map(|n| failed(
                        i64::try_from(n).unwrap_or(0) * 1_000 + 1,
                        n,
                        Cause::ConnectionRefused,
                        Some(111),
                        Some(1)
                    ))
                    .to_vec()
            }
        )]
    );
}

#[test]
fn a_link_lost_within_the_grace_is_an_outage_at_once() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .ended(1_000, 1, Phase::Held, End::PeerClosed, Some(999));
    story.is_unreachable_since(1_000, Cause::PeerClosed);
}

#[test]
fn an_outage_ends_with_the_answer_and_keeps_the_cause_of_its_onset() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .ended(1_000, 1, Phase::Held, End::PeerClosed, Some(999));
    story
        .refused(1_100, 2)
        .is_unreachable_since(1_000, Cause::ConnectionRefused);
    story.news();
    story.upgraded(1_300, 3).is_reachable_since(1_302);
    let refused = failed(1_101, 2, Cause::ConnectionRefused, Some(111), Some(1));
    assert_eq!(
        story.news().last(),
        Some(&back(
            1_302,
            3,
            outage(302, Cause::PeerClosed, 2, &[refused])
        ))
    );
    story
        .has(Disconnect, 1, &[(Cause::PeerClosed, 1)])
        .has_connects(2);
}

#[test]
fn liveness_is_checked_every_5_s_and_blames_the_newest_cause() {
    let mut story = Story::begins();
    story.upgraded(0, 1).until(5_000).has(Liveness, 1, &[]);
    story
        .ended(7_000, 1, Phase::Held, End::PeerClosed, Some(6_999))
        .until(10_000);
    story.has(Liveness, 2, &[(Cause::PeerClosed, 1)]);
    story.refused(11_000, 2).until(15_000);
    story.has(
        Liveness,
        3,
        &[(Cause::ConnectionRefused, 1), (Cause::PeerClosed, 1)],
    );
}

#[test]
fn a_late_driver_gets_one_liveness_check_and_is_back_on_the_grid() {
    let mut story = Story::begins();
    story.link.on_deadline(at(12_000), &mut story.told);
    story.has(Liveness, 1, &[(Cause::Other, 1)]);
    story.until(14_999).has(Liveness, 1, &[(Cause::Other, 1)]);
    story.until(15_000).has(Liveness, 2, &[(Cause::Other, 2)]);
}

#[test]
fn an_early_call_does_nothing() {
    let mut story = Story::begins();
    story.attempt(0, 1).established(1, 1);
    story.link.on_deadline(at(20), &mut story.told);
    assert_eq!(story.told, []);
    assert_eq!(story.link.next_deadline(), Some(at(21)));
}

#[test]
fn without_an_attempt_for_20_s_the_lack_of_one_is_the_cause() {
    let mut story = Story::begins();
    story
        .until(19_999)
        .is_unreachable_since(5_000, Cause::Other);
    story.news();
    story
        .until(20_000)
        .is_unreachable_since(5_000, Cause::NoAttempt);
    story.has(Liveness, 4, &[(Cause::NoAttempt, 1), (Cause::Other, 3)]);
    assert_eq!(
        story.news(),
        [event(
            at(20_000),
            EventKind::Unreachable {
                cause: Cause::NoAttempt,
                proxy_address: None,
                peer_address: None,
                attempts: vec![]
            }
        )],
        "the cause of the outage became known"
    );
    story
        .refused(21_000, 1)
        .is_unreachable_since(5_000, Cause::ConnectionRefused);
    story
        .until(41_000)
        .is_unreachable_since(5_000, Cause::ConnectionRefused);
    story
        .until(41_001)
        .is_unreachable_since(5_000, Cause::NoAttempt);
    assert!(
        !story
            .news()
            .iter()
            .any(|told| matches!(told.kind, EventKind::Unreachable { .. })),
        "later causes are no news"
    );
}

#[test]
fn an_outage_tells_its_own_errors_and_its_last_attempts() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story.ended(6_000, 1, Phase::Held, End::PeerClosed, Some(5_999));
    for (second, n) in [(7, 2), (8, 3), (9, 4), (11, 5)] {
        story.refused(second * 1_000, n);
    }
    story.upgraded(12_000, 6);
    let attempts = [(8, 3), (9, 4), (11, 5)].map(|(second, n)| {
        let cause = Cause::ConnectionRefused;
        failed(second * 1_000 + 1, n, cause, Some(111), Some(1))
    });
    let first = outage(6_002, Cause::PeerClosed, 1 + 4 + 1, &attempts);
    assert_eq!(story.news().last(), Some(&back(12_002, 6, first)));

    // Earlier failures, and failures beside a live connection, do not belong to the next outage.
    story.refused(12_500, 7);
    story.ended(13_000, 6, Phase::Held, End::PeerClosed, Some(12_999));
    story.upgraded(13_100, 8);
    let beside = failed(12_501, 7, Cause::ConnectionRefused, Some(111), Some(1));
    let second = outage(102, Cause::PeerClosed, 1, &[beside]);
    assert_eq!(story.news().last(), Some(&back(13_102, 8, second)));
}

#[test]
fn an_attempt_under_way_is_an_attempt() {
    let mut story = Story::begins();
    story.refused(100, 1).attempt(15_000, 2).until(60_000);
    story.is_unreachable_since(5_000, Cause::ConnectionRefused);
}

#[test]
fn a_cause_that_becomes_known_is_told_and_counts_as_that_of_the_onset() {
    let mut story = Story::begins();
    story.until(5_000);
    story.news();
    story.refused(6_000, 1);
    let attempt = failed(6_001, 1, Cause::ConnectionRefused, Some(111), Some(1));
    assert_eq!(
        story.news(),
        [
            failure(attempt),
            event(
                at(6_001),
                EventKind::Unreachable {
                    cause: Cause::ConnectionRefused,
                    proxy_address: None,
                    peer_address: Some(peer(1)),
                    attempts: vec![attempt]
                }
            )
        ]
    );
    story.upgraded(7_000, 2);
    assert_eq!(
        story.news().last(),
        Some(&back(
            7_002,
            2,
            outage(2_002, Cause::ConnectionRefused, 2, &[attempt])
        ))
    );
}

#[test]
fn losing_one_at_the_very_moment_at_which_another_is_live_is_no_outage() {
    let mut story = Story::begins();
    story.upgraded(0, 1).upgraded(1_000, 2).news();
    // The record is late: the loss happened when the other connection was answered.
    story.ended(1_002, 1, Phase::Held, End::Reset, Some(900));
    story
        .is_reachable_since(2)
        .has(Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
    assert_eq!(story.news().len(), 1, "the loss alone");
    // One millisecond earlier, and there was no live connection for that long.
    let mut story = Story::begins();
    story.upgraded(0, 1).upgraded(1_000, 2);
    story.ended(1_001, 1, Phase::Held, End::Reset, Some(900));
    story.is_reachable_since(1_002);
}

#[test]
fn losing_one_of_two_live_connections_is_an_error_but_no_outage() {
    let mut story = Story::begins();
    story.upgraded(0, 1).upgraded(1_000, 2);
    story.ended(2_000, 1, Phase::Held, End::Reset, Some(1_900));
    story
        .is_reachable_since(2)
        .has(Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
    story.ended(3_000, 2, Phase::Held, End::Reset, Some(2_900));
    story.is_unreachable_since(3_000, Cause::ConnectionReset);
}

#[test]
fn a_connection_that_answered_before_the_loss_leaves_an_outage_of_no_length() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story.attempt(900, 2).established(901, 2);
    story.ended(1_000, 1, Phase::Held, End::Reset, Some(900));
    story.sampled(1_200, 2, well(902)).is_reachable_since(1_000);
    assert_eq!(
        story.news().last(),
        Some(&back(1_000, 2, outage(0, Cause::ConnectionReset, 1, &[])))
    );
}

#[test]
fn a_local_close_is_an_outage_once_it_is_clear_that_the_process_lives_on() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .ended(1_000, 1, Phase::Held, End::LocalClosed, Some(900));
    story
        .until(1_299)
        .is_reachable_since(2)
        .has(Disconnect, 0, &[]);
    assert_eq!(story.link.live(), None);
    story
        .until(1_300)
        .is_unreachable_since(1_000, Cause::LocalClosed);
    story.has(Disconnect, 1, &[(Cause::LocalClosed, 1)]);
}

#[test]
fn a_close_that_answers_the_peer_is_the_peer_s() {
    for (heard, settled, cause) in [
        (970, 1_040, Cause::PeerClosed),
        (969, 1_300, Cause::LocalClosed),
    ] {
        let mut story = Story::begins();
        story
            .upgraded(0, 1)
            .ended(1_000, 1, Phase::Held, End::LocalClosed, Some(heard));
        story.until(settled - 1).is_reachable_since(2);
        story.until(settled).is_unreachable_since(1_000, cause);
        story.has(Disconnect, 1, &[(cause, 1)]);
    }
}

#[test]
fn an_outage_that_was_over_before_the_close_settled_is_told_in_full() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .ended(1_000, 1, Phase::Held, End::LocalClosed, Some(900));
    story.upgraded(1_010, 2);
    story.news();
    story.until(1_300).is_reachable_since(1_012);
    assert_eq!(
        story.news(),
        [
            event(
                at(1_000),
                EventKind::Disconnected {
                    peer_address: peer(1),
                    cause: Cause::LocalClosed,
                    proxy_address: None,
                }
            ),
            event(
                at(1_000),
                EventKind::Unreachable {
                    cause: Cause::LocalClosed,
                    proxy_address: None,
                    peer_address: Some(peer(1)),
                    attempts: vec![]
                }
            ),
            back(1_012, 2, outage(12, Cause::LocalClosed, 1, &[]))
        ]
    );
}

#[test]
fn a_close_that_has_not_settled_covers_only_what_was_before_it() {
    for (reset, outage) in [(1_990, 2_000), (2_100, 2_100)] {
        let mut story = Story::begins();
        story.upgraded(0, 1).upgraded(1_000, 2);
        story.ended(2_000, 2, Phase::Held, End::LocalClosed, None);
        story.ended(reset, 1, Phase::Held, End::Reset, None);
        story.until(2_500);
        let since = match story.link.state() {
            State::Unreachable { since, .. } => Some(since),
            State::Idle
            | State::Starting
            | State::Reachable { .. }
            | State::Unknown { .. }
            | State::Ended => None,
        };
        assert_eq!(since, Some(at(outage)));
        assert_eq!(story.link.counts().checks(Disconnect), 2);
    }
}

#[test]
fn a_newer_failure_outranks_a_close_that_settles_after_it() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .ended(1_000, 1, Phase::Held, End::LocalClosed, Some(900));
    story.refused(1_130, 2).until(1_300);
    story.is_unreachable_since(1_000, Cause::ConnectionRefused);
    let onset = story.news().into_iter().find_map(|told| {
        if let EventKind::Unreachable { cause, .. } = told.kind {
            Some(cause)
        } else {
            None
        }
    });
    assert_eq!(onset, Some(Cause::LocalClosed));
}

#[test]
fn a_process_that_ends_takes_its_connections_with_it_and_counts_nothing() {
    for (phase, how) in [
        (Phase::Held, End::LocalClosed),
        (Phase::Connecting, End::Abandoned),
        (Phase::Connecting, End::Unanswered),
        (Phase::Held, End::Exiting),
        (Phase::Connecting, End::Exiting),
    ] {
        let mut story = Story::begins();
        story.upgraded(0, 1).attempt(900, 2);
        let ending = if phase == Phase::Held { 1 } else { 2 };
        story.news();
        story
            .ended(1_000, ending, phase, how, None)
            .process_ended(1_002);
        assert_eq!(story.link.state(), State::Ended);
        assert_eq!(story.link.next_deadline(), None);
        assert_eq!(story.news(), [event(at(1_002), EventKind::Ended)]);
        story.has(Connect, 1, &[]).has(Disconnect, 0, &[]);
        story.refused(2_000, 3).process_ended(3_000).until(9_000);
        assert_eq!(story.news(), []);
        story.has(Connect, 1, &[]).has(Liveness, 0, &[]);
    }
}

#[test]
fn a_driver_that_learns_of_the_close_and_the_end_at_once_sees_the_expected_end() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .ended(1_000, 1, Phase::Held, End::LocalClosed, None);
    story.process_ended(1_800).has(Disconnect, 0, &[]);
}

#[test]
fn a_peer_that_ends_it_first_is_an_error_even_if_the_process_ends_next() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .ended(1_000, 1, Phase::Held, End::Reset, None);
    story
        .process_ended(1_001)
        .has(Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
}

#[test]
fn time_that_steps_back_stands_still_but_dates_what_happened() {
    let mut story = Story::begins();
    story.upgraded(0, 1).until(5_000);
    story.ended(4_900, 1, Phase::Held, End::Reset, Some(4_000));
    story.is_unreachable_since(4_900, Cause::ConnectionReset);
    story.upgraded(4_950, 2).is_reachable_since(4_952);
}
