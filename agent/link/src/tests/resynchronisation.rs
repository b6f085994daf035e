//! Tests of resynchronisation after lost records.

use statlink_ebpf::{End, Phase};

use super::story::{Story, at, failure, id, unanswered, well};
use crate::{
    Cause,
    CheckKind::{Connect, Disconnect},
    FailedAttempt, State,
};

#[test]
fn what_is_open_and_unknown_is_taken_up() {
    let mut story = Story::begins();
    story
        .resynchronised(500, &[(1, Some(10), Phase::Established)], &[])
        .until(500);
    assert_eq!(story.asked(), [id(1)]);
    story
        .sampled(501, 1, well(12))
        .is_reachable_since(12)
        .has_connects(1);
}

#[test]
fn a_missed_end_belongs_to_the_connection_that_is_gone() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story.resynchronised(1_000, &[], &[(Phase::Held, End::PeerClosed, 1)]);
    story.is_unreachable_since(1_000, Cause::PeerClosed);
    story
        .has(Disconnect, 1, &[(Cause::PeerClosed, 1)])
        .has(Connect, 1, &[])
        .has_connects(1);
}

#[test]
fn an_end_that_is_read_while_a_listing_waits_is_not_waited_for() {
    let mut story = Story::begins();
    story.upgraded(0, 1).upgraded(300, 2);
    story.listed(1_000, &[], &[(Phase::Held, End::PeerClosed, 1)]);
    story.ended(1_000, 1, Phase::Held, End::Reset, Some(990));
    story.sampled_gone(1_001, 2).has(
        Disconnect,
        2,
        &[(Cause::ConnectionReset, 1), (Cause::PeerClosed, 1)],
    );
}

#[test]
fn what_was_gone_before_a_listing_does_not_hurry_the_look_at_others() {
    let mut story = Story::begins();
    story.upgraded(0, 1).upgraded(300, 2);
    story.sampled_gone(900, 1);
    story.listed(1_000, &[], &[(Phase::Held, End::PeerClosed, 2)]);
    story.until(1_001).sampled(1_500, 2, well(1_490));
    story.is_reachable_since(2);
}

#[test]
fn missed_ends_of_connections_never_known_are_history() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story.news();
    story.resynchronised(
        1_000,
        &[(1, Some(0), Phase::Established)],
        &[
            (Phase::Connecting, End::Refused, 2),
            (Phase::Held, End::LocalClosed, 1),
        ],
    );
    story.is_reachable_since(2).has_connects(2);
    story.has(Connect, 4, &[(Cause::ConnectionRefused, 2)]);
    story.has(Disconnect, 1, &[(Cause::LocalClosed, 1)]);
    let attempt = FailedAttempt {
        at: at(1_000),
        peer_address: None,
        cause: Cause::ConnectionRefused,
        proxy_address: None,
        errno: None,
        duration: None,
    };
    assert_eq!(story.news(), vec![failure(attempt); 2]);
}

#[test]
fn millions_of_missed_ends_are_counted_but_not_told_one_by_one() {
    let mut story = Story::begins();
    story.resynchronised(1_000, &[], &[(Phase::Connecting, End::Refused, u32::MAX)]);
    let n = u64::from(u32::MAX);
    story.has(Connect, n, &[(Cause::ConnectionRefused, n)]);
    assert!(story.told.len() <= 16);
}

#[test]
fn a_connection_that_is_gone_without_an_end_ended_for_an_unknown_cause() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .attempt(900, 2)
        .resynchronised(1_000, &[], &[])
        .until(1_999);
    // Their records may be late.
    story.has(Disconnect, 0, &[]).has(Connect, 1, &[]);
    story
        .until(2_000)
        .has(Disconnect, 1, &[(Cause::Other, 1)])
        .has(Connect, 2, &[(Cause::Other, 1)]);
    story.ended(999, 1, Phase::Held, End::Reset, None);
    story.has(Disconnect, 1, &[(Cause::Other, 1)]);
}

#[test]
fn an_end_goes_with_the_connection_that_had_come_as_far() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .attempt(900, 2)
        .established(901, 2)
        .attempt(950, 3);
    story.resynchronised(
        1_000,
        &[],
        &[
            (Phase::Connecting, End::HostUnreachable, 1),
            (Phase::Established, End::Reset, 1),
            (Phase::Held, End::PeerClosed, 1),
        ],
    );
    story.until(1_030).has(
        Connect,
        3,
        &[(Cause::HostUnreachable, 1), (Cause::ConnectionReset, 1)],
    );
    story
        .has(Disconnect, 1, &[(Cause::PeerClosed, 1)])
        .has_connects(1);
}

#[test]
fn a_connection_may_have_come_further_than_its_records() {
    let mut story = Story::begins();
    story
        .attempt(0, 1)
        .resynchronised(2_000, &[], &[(Phase::Held, End::Reset, 1)]);
    story.has(Connect, 1, &[]).has_connects(1);
    story.has(Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
}

#[test]
fn the_missed_end_of_a_stalled_connection_adds_nothing() {
    let mut story = Story::begins();
    story.upgraded(0, 1).timeouts(2_000, 1, 2);
    story
        .resynchronised(3_000, &[], &[(Phase::Held, End::LocalClosed, 1)])
        .until(4_000);
    story
        .has(Disconnect, 1, &[(Cause::Stalled, 1)])
        .has_connects(1);
}

#[test]
fn the_missed_end_of_a_failed_handshake_adds_nothing() {
    let mut story = Story::begins();
    story
        .attempt(0, 1)
        .established(1, 1)
        .sampled(3_010, 1, unanswered());
    story
        .resynchronised(3_100, &[], &[(Phase::Established, End::LocalClosed, 1)])
        .until(4_000);
    story.has(Connect, 1, &[(Cause::HandshakeFailed, 1)]);
}

#[test]
fn a_close_that_settles_is_not_gone_a_second_time() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .ended(1_000, 1, Phase::Held, End::LocalClosed, None);
    story.resynchronised(1_100, &[], &[]).until(2_000);
    story.has(Disconnect, 1, &[(Cause::LocalClosed, 1)]);
}

#[test]
fn missed_local_closes_of_a_process_that_ends_count_nothing() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story.resynchronised(1_000, &[], &[(Phase::Held, End::LocalClosed, 1)]);
    story.process_ended(1_010).has(Disconnect, 0, &[]);
    assert_eq!(story.link.state(), State::Ended);
}

#[test]
fn what_happened_before_the_discovery_is_counted_and_explains() {
    let mut story = Story::begins();
    story
        .resynchronised(0, &[], &[(Phase::Connecting, End::Refused, 3)])
        .until(5_000);
    story.is_unreachable_since(5_000, Cause::ConnectionRefused);
    story.has(Connect, 3, &[(Cause::ConnectionRefused, 3)]);
}

#[test]
fn a_listing_does_not_end_what_is_younger() {
    let mut story = Story::begins();
    let mut young = id(1);
    young.born = at(700);
    story.input(
        700,
        crate::Input::Attempted {
            connection: young,
            peer_address: super::story::peer(1),
        },
    );
    story.resynchronised(600, &[], &[]);
    assert_eq!(story.link.connections().count(), 1);
    story.has(Connect, 0, &[]);
}

/// A walk of the map misses entries that move meanwhile.
#[test]
fn a_live_connection_that_a_listing_lacks_is_looked_at_and_stays() {
    let mut story = Story::begins();
    story.upgraded(0, 1).news();
    story.listed(1_000, &[], &[]);
    assert_eq!(story.asked(), [id(1)]);
    story.sampled(1_001, 1, well(2)).is_reachable_since(2);
    story.has(Disconnect, 0, &[]).has(Connect, 1, &[]);
    story.until(3_000).is_reachable_since(2);
}

#[test]
fn a_missed_end_waits_until_it_is_known_which_connection_is_gone() {
    let mut story = Story::begins();
    story.upgraded(0, 1).upgraded(300, 2).news();
    story.listed(1_000, &[], &[(Phase::Held, End::PeerClosed, 1)]);
    // The older one would be the first match.
    story.sampled(1_001, 1, well(2));
    story.has(Disconnect, 0, &[]).has_connects(2);
    story.sampled_gone(1_001, 2);
    story
        .is_reachable_since(2)
        .has(Disconnect, 1, &[(Cause::PeerClosed, 1)])
        .has_connects(2);
    assert_eq!(story.link.connections().collect::<Vec<_>>(), [id(1)]);
}

#[test]
fn a_look_that_is_not_answered_holds_nothing_up_for_longer_than_a_record() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story
        .listed(1_000, &[], &[(Phase::Held, End::PeerClosed, 1)])
        .until(1_999);
    story.has(Disconnect, 0, &[]);
    story.until(2_000);
    story
        .is_unreachable_since(1_000, Cause::PeerClosed)
        .has(Disconnect, 1, &[(Cause::PeerClosed, 1)])
        .has_connects(1);
}

#[test]
fn two_listings_that_follow_each_other_are_one() {
    let mut story = Story::begins();
    story.upgraded(0, 1).attempt(900, 2);
    story.listed(1_000, &[], &[(Phase::Connecting, End::Refused, 1)]);
    story.listed(1_100, &[], &[(Phase::Held, End::PeerClosed, 1)]);
    story.sampled_gone(1_101, 1).sampled_gone(1_101, 2);
    story
        .until(1_130)
        .has(Connect, 2, &[(Cause::ConnectionRefused, 1)])
        .has(Disconnect, 1, &[(Cause::PeerClosed, 1)])
        .has_connects(1);
}

#[test]
fn the_record_that_comes_after_the_look_ends_it() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story.resynchronised(1_000, &[], &[]);
    story.ended(1_010, 1, Phase::Held, End::Reset, Some(900));
    story
        .is_unreachable_since(1_010, Cause::ConnectionReset)
        .has(Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
}

#[test]
fn an_end_that_turns_up_after_its_connection_was_decided_is_not_counted_again() {
    let mut story = Story::begins();
    story
        .upgraded(0, 1)
        .resynchronised(1_000, &[], &[])
        .until(2_500)
        .has(Disconnect, 1, &[(Cause::Other, 1)]);
    story.resynchronised(3_000, &[], &[(Phase::Held, End::PeerClosed, 1)]);
    story.has(Disconnect, 1, &[(Cause::Other, 1)]);
    // A further missed end belongs to another connection.
    story.resynchronised(3_100, &[], &[(Phase::Held, End::PeerClosed, 1)]);
    story.has(Disconnect, 2, &[(Cause::PeerClosed, 1), (Cause::Other, 1)]);
}

#[test]
fn a_missed_end_long_after_a_connection_was_decided_is_another_ones() {
    let mut story = Story::begins();
    story.upgraded(0, 1).resynchronised(1_000, &[], &[]);
    story.until(20_000);
    story.resynchronised(20_000, &[], &[(Phase::Held, End::PeerClosed, 1)]);
    story.has(Disconnect, 2, &[(Cause::PeerClosed, 1), (Cause::Other, 1)]);
}
