//! A successor that is told the rest of what its predecessor was told: nothing is counted twice.

use statlink_ebpf::{End, Phase};

use super::story::{Story, id, peer, silent, well};
use crate::{
    Cause,
    CheckKind::{Connect, Disconnect},
    CountedConnection, Input, Legacy, LinkMachine, Progress, Sample, State,
};

const REACHABLE: Legacy = Legacy {
    was_reachable: true,
    outage: None,
    wary: false,
};

/// What a link that has the first connection leaves.
fn counted(n: u64) -> CountedConnection {
    CountedConnection {
        connection: id(n),
        peer_address: peer(n),
        stalled: None,
    }
}

/// The successor of a link that was reachable, and counted these.
fn successor(counted: Vec<CountedConnection>) -> Story {
    let mut story = Story::begins();
    story.input(0, Input::Inherited(REACHABLE));
    story.input(0, Input::Counted(counted));
    story
}

/// The predecessor's link, in the same kernel half: what it left is what the successor is given.
fn succeed(first: &Story) -> (Story, Progress) {
    let progress = first.link.progress();
    let mut next = Story::begins();
    next.input(0, Input::Inherited(first.link.legacy()));
    next.input(0, Input::Counted(progress.counted.clone()));
    (next, progress)
}

#[test]
fn a_connection_that_was_counted_and_lives_on_adds_nothing() {
    let mut story = successor(vec![counted(1)]);
    story.listed(10, &[(1, Some(-9_000), Phase::Established)], &[]);
    story.sampled(20, 1, well(-300));
    assert!(matches!(story.link.state(), State::Reachable { .. }));
    story.has(Connect, 0, &[]).has(Disconnect, 0, &[]);
    story.has_connects(0);
    assert_eq!(story.link.progress().counted, [counted(1)]);
}

#[test]
fn its_end_while_no_agent_lived_is_one_loss_and_no_dial() {
    // By its record, with its own time, and the next dial after it.
    let mut story = successor(vec![counted(1)]);
    let (phase, how) = (Phase::Held, End::Reset);
    story.ended_with(-500, 1, Some(-9_000), phase, how, 104, Some(-600));
    story.is_unreachable_since(-500, Cause::ConnectionReset);
    story.upgraded(10, 2).is_reachable_since(12);
    story.has(Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
    story.has(Connect, 1, &[]).has_connects(1);
    // Or without one: its predecessor had read it, or the ring was full.
    let mut story = successor(vec![counted(1)]);
    story.resynchronised(10, &[], &[(phase, how, 1)]);
    story.has(Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
    story.has(Connect, 0, &[]).has_connects(0);
}

#[test]
fn an_end_that_waits_to_be_judged_is_left_to_the_successor() {
    let mut first = Story::begins();
    first.upgraded(0, 1);
    let (phase, how) = (Phase::Held, End::LocalClosed);
    first.ended(1_000, 1, phase, how, Some(500));
    // Killed before it knew whether the process lives on.
    let (mut second, left) = succeed(&first);
    assert_eq!(left.counted, [counted(1)]);
    assert_eq!(left.undecided.count(phase, how), 1);
    first.has_connects(1).has(Disconnect, 0, &[]);
    second
        .resynchronised(10, &[], &[(phase, how, 1)])
        .until(2_000);
    second.has_connects(0).has(Connect, 0, &[]);
    second.has(Disconnect, 1, &[(Cause::LocalClosed, 1)]);
    // Judged, it is the first one's own.
    first.until(1_400);
    assert_eq!(first.link.progress(), Progress::default());
    first.has(Disconnect, 1, &[(Cause::LocalClosed, 1)]);
}

#[test]
fn a_dial_that_failed_and_waits_for_its_race_is_not_counted_yet() {
    let mut first = Story::begins();
    first.refused_in_a_race(0, 1);
    let left = first.link.progress();
    assert_eq!(left.counted, []);
    assert_eq!(left.undecided.count(Phase::Connecting, End::Refused), 1);
    first
        .until(31)
        .has(Connect, 1, &[(Cause::ConnectionRefused, 1)]);
    assert_eq!(first.link.progress(), Progress::default());
}

/// Which of the looks finds them gone is not known yet.
#[test]
fn missed_ends_that_wait_for_looks_are_left_to_the_successor() {
    let mut first = Story::begins();
    first.upgraded(0, 1);
    first.listed(1_000, &[], &[(Phase::Held, End::Reset, 1)]);
    let left = first.link.progress();
    assert_eq!(left.undecided.count(Phase::Held, End::Reset), 1);
    first
        .sampled_gone(1_001, 1)
        .has(Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
    assert_eq!(first.link.progress(), Progress::default());
}

/// The client has dialled another one meanwhile, so there is no outage.
#[test]
fn a_connection_whose_stall_was_counted_is_not_lost_again() {
    let mut first = Story::begins();
    first.upgraded(0, 1);
    let blackhole = Sample {
        unacknowledged: true,
        timeouts: 9,
        ..silent(2, 5_000)
    };
    first.until(9_000).sampled(9_000, 1, blackhole);
    first.has(Disconnect, 1, &[(Cause::Stalled, 1)]);
    first.upgraded(9_100, 2);
    let (mut second, left) = succeed(&first);
    let stalled: Vec<_> = left.counted.iter().map(|it| it.stalled.is_some()).collect();
    assert_eq!(stalled, [true, false]);
    assert!(first.link.legacy().outage.is_none());
    second
        .sampled(10, 2, well(-5))
        .until(300)
        .sampled(300, 2, well(290));
    second.sampled(310, 1, blackhole);
    second.ended(400, 1, Phase::Held, End::TimedOut, None);
    assert!(matches!(second.link.state(), State::Reachable { .. }));
    second.has(Disconnect, 0, &[]).has(Connect, 0, &[]);
}

#[test]
fn each_target_of_a_fan_out_goes_on_with_its_own() {
    let mut story = Story::of_several();
    story.input(0, Input::Counted(vec![counted(1), counted(2)]));
    story.sampled(10, 1, well(-5)).sampled(10, 2, well(-5));
    story.until(300);
    story.sampled(300, 1, well(290)).sampled(300, 2, well(290));
    assert!(matches!(story.link.state(), State::Reachable { .. }));
    assert_eq!(story.link.progress().counted, [counted(1), counted(2)]);
    story.ended(400, 2, Phase::Held, End::Reset, Some(350));
    story.has(Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
    story.has(Connect, 0, &[]);
    assert_eq!(story.link.progress().counted, [counted(1)]);
}
