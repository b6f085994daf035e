//! Tests of connections that exist and carry nothing.

use statlink_ebpf::{End, Phase};

use super::story::{Story, at, back, id, outage, silent, well};
use crate::{
    Cause,
    CheckKind::{Connect, Disconnect},
    Sample,
};

fn stuck(heard: i64, timeouts: u8) -> Sample {
    Sample {
        unacknowledged: true,
        timeouts,
        ..well(heard)
    }
}

#[test]
fn a_healthy_idle_connection_is_looked_at_when_its_pong_should_have_come() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    // Until it has sent something after the answer, that may be a refusal.
    story.until(1_252).sampled(1_252, 1, silent(2, 1_000));
    story.asked();
    assert_eq!(story.link.next_deadline(), Some(at(3_502)));
    story.until(3_502).sampled(3_502, 1, well(3_335));
    assert_eq!(story.asked(), [id(1)]);
    story.until(6_834);
    assert_eq!(story.asked(), []);
    story.until(6_835);
    assert_eq!(story.asked(), [id(1)]);
}

#[test]
fn two_retransmission_timeouts_are_a_stall_and_a_loss_once() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story.news();
    story.timeouts(2_000, 1, 1).is_reachable_since(2);
    story
        .timeouts(2_400, 1, 2)
        .is_unreachable_since(2_400, Cause::Stalled);
    story
        .timeouts(3_200, 1, 3)
        .sampled(3_300, 1, stuck(1_000, 3));
    story
        .ended(9_000, 1, Phase::Held, End::LocalClosed, Some(1_000))
        .until(9_999);
    story.has(Disconnect, 1, &[(Cause::Stalled, 1)]);
    story.is_unreachable_since(2_400, Cause::Stalled);
    assert_eq!(story.news().len(), 2, "disconnected, unreachable");
}

#[test]
fn a_sample_shows_a_stall_whose_records_were_lost() {
    let mut story = Story::begins();
    story.upgraded(0, 1).sampled(3_502, 1, stuck(2, 2));
    story.is_unreachable_since(3_502, Cause::Stalled);
}

#[test]
fn pings_without_an_answer_for_5_s_are_a_stall() {
    let mut story = Story::begins();
    story.upgraded(0, 1).sampled(3_502, 1, silent(2, 3_335));
    story.until(5_001);
    story.asked();
    story.until(5_002);
    assert_eq!(story.asked(), [id(1)], "a fresh look decides");
    story.is_reachable_since(2);
    story
        .sampled(5_003, 1, silent(2, 3_335))
        .is_unreachable_since(5_002, Cause::Stalled);
    story.has(Disconnect, 1, &[(Cause::Stalled, 1)]);
}

/// Its kernel has no room for more, so nothing is sent any longer, and nothing is sent again.
#[test]
fn data_that_a_frozen_peer_does_not_take_is_a_stall_after_5_s_of_silence() {
    let untaken = Sample {
        unacknowledged: true,
        ..silent(2, 2_000)
    };
    let mut story = Story::begins();
    story.upgraded(0, 1);
    for time in [1_252, 2_252] {
        story.until(time).sampled(time, 1, silent(2, 1_100));
    }
    for time in [3_502, 4_002, 4_502] {
        story.until(time).sampled(time, 1, untaken);
    }
    story.until(5_001).is_reachable_since(2);
    story.until(5_002).sampled(5_002, 1, untaken);
    story.is_unreachable_since(5_002, Cause::Stalled);
    // It is over with a word of the peer's.
    story.sampled(9_000, 1, untaken);
    story.is_unreachable_since(5_002, Cause::Stalled);
    story
        .sampled(9_400, 1, well(9_300))
        .is_reachable_since(9_300);
}

#[test]
fn data_on_its_way_at_one_look_waits_for_nothing_at_the_next() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story.until(1_252).sampled(1_252, 1, silent(2, 1_100));
    let on_its_way = Sample {
        unacknowledged: true,
        ..silent(2, 3_100)
    };
    story.until(3_502).sampled(3_502, 1, on_its_way);
    // As at a shutdown: the client says nothing more, and waits for its reader to give up.
    for time in [5_002, 5_502, 9_002] {
        story.until(time).sampled(time, 1, silent(2, 3_100));
        story.is_reachable_since(2);
    }
}

#[test]
fn a_connection_on_which_neither_side_speaks_for_12_s_is_the_activator_s_own_stall() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    // Longer than any shutdown of a running client takes.
    for time in (3_502..12_000).step_by(500) {
        story.until(time).sampled(time, 1, well(2));
    }
    story.is_reachable_since(2).has(Disconnect, 0, &[]);
    story.asked();
    assert_eq!(story.link.next_deadline(), Some(at(12_002)));
    story.until(12_002).sampled(12_002, 1, well(2));
    story.is_unreachable_since(12_002, Cause::LocalStalled).has(
        Disconnect,
        1,
        &[(Cause::LocalStalled, 1)],
    );
    // Its close adds nothing.
    story.ended(60_000, 1, Phase::Held, End::LocalClosed, Some(2));
    story
        .until(60_400)
        .has(Disconnect, 1, &[(Cause::LocalStalled, 1)]);
}

#[test]
fn an_activator_that_was_frozen_is_back_once_it_is_answered() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .until(12_002)
        .sampled(12_002, 1, well(2));
    story.is_unreachable_since(12_002, Cause::LocalStalled);
    // What it sends when it thaws may be the last thing it sends.
    story.sampled(15_000, 1, silent(2, 14_990));
    story.is_unreachable_since(12_002, Cause::LocalStalled);
    story.sampled(15_200, 1, silent(14_992, 14_990));
    story.is_reachable_since(14_992).has_connects(1);
}

#[test]
fn what_the_activator_sends_is_a_sign_of_its_life() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    // Stats alone: only pings are answered, so the peer's silence is the peer's.
    story.until(9_000).sampled(9_000, 1, silent(2, 3_000));
    story.until(14_999).sampled(14_999, 1, silent(2, 3_000));
    story.is_reachable_since(2);
    story.until(15_000).sampled(15_000, 1, silent(2, 3_000));
    story.is_unreachable_since(15_000, Cause::LocalStalled);
}

#[test]
fn a_throttled_activator_gets_time_for_the_answer_to_its_first_ping() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .sampled(9_000, 1, silent(2, 8_990))
        .is_reachable_since(2);
    assert_eq!(story.link.next_deadline(), Some(at(10_000)), "liveness");
    story
        .until(10_000)
        .sampled(10_010, 1, silent(2, 8_990))
        .is_reachable_since(2);
    assert_eq!(story.link.next_deadline(), Some(at(10_490)));
    story.sampled(10_495, 1, well(10_492)).is_reachable_since(2);
}

#[test]
fn the_first_unanswered_message_counts_not_the_last() {
    let mut story = Story::begins();
    story.upgraded(0, 1).sampled(3_502, 1, silent(2, 3_335));
    story
        .sampled(5_010, 1, silent(2, 5_000))
        .is_unreachable_since(5_002, Cause::Stalled);
}

#[test]
fn a_stall_heals_when_the_peer_is_heard_and_is_no_new_connect() {
    let mut story = Story::begins();
    story.upgraded(0, 1).timeouts(2_400, 1, 2);
    story.news();
    story
        .sampled(2_600, 1, stuck(1_000, 1))
        .is_unreachable_since(2_400, Cause::Stalled);
    story
        .sampled(2_800, 1, well(2_700))
        .is_reachable_since(2_700);
    story.has(Connect, 1, &[]).has_connects(1);
    assert_eq!(
        story.news(),
        [back(2_700, 1, outage(300, Cause::Stalled, 1, &[]))]
    );
}

#[test]
fn a_stall_that_heals_by_acknowledgement_alone_is_dated_by_the_look() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .timeouts(2_400, 1, 2)
        .sampled(2_600, 1, well(2));
    story.is_reachable_since(2_600);
}

#[test]
fn each_stall_of_a_connection_is_a_loss_and_so_is_its_end_after_healing() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story.timeouts(2_000, 1, 2).sampled(2_200, 1, well(2_100));
    story.timeouts(3_000, 1, 2).sampled(3_200, 1, well(3_100));
    story.ended(4_000, 1, Phase::Held, End::PeerClosed, Some(3_999));
    story.has(
        Disconnect,
        3,
        &[(Cause::PeerClosed, 1), (Cause::Stalled, 2)],
    );
}

#[test]
fn a_stalled_connection_is_looked_at_every_200_ms() {
    let mut story = Story::begins();
    story.upgraded(0, 1).timeouts(2_000, 1, 2);
    story.asked();
    story.until(2_600);
    assert_eq!(story.asked(), [id(1); 3]);
}

#[test]
fn a_newer_failed_attempt_outranks_a_stall() {
    let mut story = Story::begins();
    story.upgraded(0, 1).timeouts(2_000, 1, 2);
    story
        .ended(3_000, 1, Phase::Held, End::LocalClosed, None)
        .refused(3_100, 2)
        .until(4_000);
    story.is_unreachable_since(2_000, Cause::ConnectionRefused);
}

#[test]
fn a_stall_heals_although_a_part_of_its_signs_is_still_there() {
    for (unacknowledged, timeouts) in [(true, 0), (false, 2)] {
        let mut story = Story::begins();
        story.upgraded(0, 1).timeouts(2_400, 1, 2);
        let sample = Sample {
            unacknowledged,
            timeouts,
            ..well(2_900)
        };
        story.sampled(3_000, 1, sample).is_reachable_since(2_900);
    }
}

#[test]
fn what_is_sent_3200_ms_after_the_peer_was_heard_is_no_ping_yet() {
    for (sent, stalled) in [(3_202, false), (3_203, true)] {
        let mut story = Story::begins();
        story.upgraded(0, 1).sampled(6_000, 1, silent(2, sent));
        let lost = story.link.counts().checks(Disconnect);
        assert_eq!(lost, u64::from(stalled), "sent at {sent}");
    }
}

#[test]
fn a_live_connection_found_in_another_state_is_as_good_as_gone() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    let closing = Sample {
        established: false,
        ..well(900)
    };
    story.sampled(1_000, 1, closing).until(1_999);
    story.is_reachable_since(2);
    // The record of its end is a second late.
    story.until(2_000).is_unreachable_since(1_000, Cause::Other);
}
