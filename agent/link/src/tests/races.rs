//! Tests of several connect()s of one dial: the losers are no failed attempts.

use statlink_ebpf::{End, Phase};

use super::story::Story;
use crate::{
    Cause,
    CheckKind::{Connect, Disconnect},
    Link,
};

impl Story<Link> {
    #[track_caller]
    fn has_races_lost(&self, races: u64) -> &Self {
        assert_eq!(self.link.counts().races_lost(), races);
        self
    }

    /// The result of a connection that succeeds at `time` + 2 ms.
    fn comes_up(&mut self, time: i64, n: u64) -> &mut Self {
        self.upgraded(time, n)
    }

    fn given_up(&mut self, time: i64, n: u64, begun: i64, how: End) -> &mut Self {
        self.ended_with(time, n, Some(begun), Phase::Connecting, how, 0, None)
    }
}

#[test]
fn a_family_that_goes_nowhere_is_given_up_once_the_other_came_up() {
    for how in [End::Abandoned, End::Unanswered] {
        let mut story = Story::begins();
        story.attempt(0, 1).attempt(300, 2).established(301, 2);
        story.given_up(301, 1, 0, how);
        story.until(560).sampled(560, 2, super::story::well(303));
        story.until(2_000);
        story.has(Connect, 1, &[]).has_connects(1).has_races_lost(1);
    }
}

#[test]
fn a_family_that_is_refused_at_once_is_no_failure_of_the_dial() {
    for how in [End::Refused, End::HostUnreachable, End::NetworkUnreachable] {
        let mut story = Story::begins();
        story.attempt(0, 1);
        story.given_up(1, 1, 0, how);
        story.comes_up(2, 2).until(2_000);
        story.has(Connect, 1, &[]).has_connects(1).has_races_lost(1);
    }
}

/// The second connect() is faster, and its connection is kept.
fn both_come_up_and_the_first_is_closed() -> Story {
    let mut story = Story::begins();
    story.attempt(0, 1).attempt(300, 2);
    story.established(301, 2).established(302, 1);
    story.ended_with(
        303,
        1,
        Some(0),
        Phase::Established,
        End::LocalClosed,
        0,
        None,
    );
    story
}

#[test]
fn both_families_may_come_up_and_one_is_closed_without_a_word() {
    let mut story = both_come_up_and_the_first_is_closed();
    story.until(560).sampled(560, 2, super::story::well(303));
    story.until(2_000);
    story.has(Connect, 1, &[]).has_connects(1).has_races_lost(1);
}

#[test]
fn the_winner_s_own_failure_counts() {
    let mut story = both_come_up_and_the_first_is_closed();
    story.ended_with(
        3_000,
        2,
        Some(300),
        Phase::Established,
        End::LocalClosed,
        0,
        None,
    );
    story.until(4_000);
    story
        .has(Connect, 1, &[(Cause::HandshakeFailed, 1)])
        .has_races_lost(1);
}

#[test]
fn where_no_family_comes_up_each_connect_counts() {
    let mut story = Story::begins();
    story
        .refused_in_a_race(0, 1)
        .refused_in_a_race(2, 2)
        .until(100);
    story
        .has(Connect, 2, &[(Cause::ConnectionRefused, 2)])
        .has_races_lost(0);
}

#[test]
fn a_failure_waits_for_the_other_family_as_long_as_that_takes() {
    let mut story = Story::begins();
    story.refused_in_a_race(0, 1).attempt(2, 2).until(2_900);
    story.has(Connect, 0, &[]);
    story.given_up(2_990, 2, 2, End::Unanswered).until(3_400);
    story.has(
        Connect,
        2,
        &[(Cause::ConnectionRefused, 1), (Cause::Timeout, 1)],
    );
    story
        .refused_in_a_race(3_500, 3)
        .attempt(3_502, 4)
        .until(5_000);
    story.established(5_000, 4);
    story.has(
        Connect,
        2,
        &[(Cause::ConnectionRefused, 1), (Cause::Timeout, 1)],
    );
    story.has_races_lost(1);
}

#[test]
fn three_addresses_are_one_dial() {
    let mut story = Story::begins();
    story.refused_in_a_race(0, 1).refused_in_a_race(2, 2);
    story.comes_up(4, 3).until(2_000);
    story.has(Connect, 1, &[]).has_connects(1).has_races_lost(2);
}

#[test]
fn the_dial_after_a_pause_is_another_one() {
    let mut story = Story::begins();
    story.refused_in_a_race(0, 1);
    story.comes_up(101, 2).until(2_000);
    story
        .has(Connect, 2, &[(Cause::ConnectionRefused, 1)])
        .has_races_lost(0);
}

#[test]
fn a_connection_that_was_there_before_the_dial_won_nothing() {
    let mut story = Story::begins();
    story.upgraded(0, 1).refused(5_000, 2).until(6_000);
    story
        .has(Connect, 2, &[(Cause::ConnectionRefused, 1)])
        .has(Disconnect, 0, &[]);
}

#[test]
fn the_same_address_twice_is_no_race() {
    let mut story = Story::begins();
    let again = crate::Input::Attempted {
        connection: super::story::id(2),
        peer_address: super::story::peer(1),
    };
    story.refused_in_a_race(0, 1).input(2, again).until(100);
    story.has(Connect, 1, &[(Cause::ConnectionRefused, 1)]);
}
