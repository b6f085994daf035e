//! Tests: what an agent leaves of a link to its successor.

use statlink_ebpf::{End, Phase};

use super::story::{Story, at, back, failed, outage, silent, well};
use crate::{
    Cause,
    CheckKind::{Connect, Disconnect, Liveness},
    Input, Legacy, LinkMachine, OutageUnderWay, Output, Sample, State,
};

/// The legacy of an outage that began 60 s before the discovery, with five errors.
fn in_an_outage() -> Legacy {
    Legacy {
        was_reachable: true,
        wary: false,
        outage: Some(OutageUnderWay {
            since: at(-60_000),
            cause: Cause::PeerClosed,
            errors: 5,
            attempts: vec![of_before()],
        }),
    }
}

fn of_before() -> crate::FailedAttempt {
    failed(-7_000, 9, Cause::ConnectionRefused, Some(111), Some(1))
}

#[test]
fn an_outage_of_before_goes_on_where_no_look_shows_its_end() {
    let mut story = Story::begins();
    story.input(0, Input::Inherited(in_an_outage()));
    // Nothing is shown from memory alone.
    story.until(4_999);
    assert_eq!(story.link.state(), State::Starting);
    assert!(!story.told.contains(&Output::OutageGoesOn));
    // The cause is that of the last attempt.
    story
        .until(5_000)
        .is_unreachable_since(-60_000, Cause::ConnectionRefused);
    // It must be exported at once.
    let go_on = |output: &&Output| **output == Output::OutageGoesOn;
    assert_eq!(story.told.iter().filter(go_on).count(), 1);
    // The agent before reported it and counted its onset.
    assert_eq!(story.news(), []);
    story.has(Disconnect, 0, &[]);
    story.refused(6_000, 1).upgraded(7_000, 2);
    let attempts = [
        of_before(),
        failed(6_001, 1, Cause::ConnectionRefused, Some(111), Some(1)),
    ];
    let counted = story.link.counts().total_errors();
    let over = outage(67_002, Cause::PeerClosed, 5 + counted, &attempts);
    assert_eq!(story.news().last(), Some(&back(7_002, 2, over)));
    // The next outage has none of its errors.
    story.ended(8_000, 2, Phase::Held, End::Reset, Some(7_002));
    let legacy = story.link.legacy();
    let errors = legacy.outage.map(|outage| outage.errors);
    assert_eq!(errors, Some(1));
}

#[test]
fn an_outage_that_ends_before_it_is_shown_has_its_whole_length() {
    let mut story = Story::begins();
    story.input(0, Input::Inherited(in_an_outage()));
    story.upgraded(1_000, 2).is_reachable_since(1_002);
    let over = outage(61_002, Cause::PeerClosed, 5, &[of_before()]);
    assert_eq!(story.news().last(), Some(&back(1_002, 2, over)));
    story.has(Connect, 1, &[]);
    assert_eq!(story.link.never_reachable(), None);
}

#[test]
fn a_connection_that_is_found_ends_the_outage_when_its_peer_was_last_heard() {
    let mut story = Story::begins();
    story.input(0, Input::Inherited(in_an_outage()));
    story.found(10, 3, None, Phase::Established);
    story.sampled(10, 3, well(-500)).until(400);
    let over = outage(59_500, Cause::PeerClosed, 5, &[of_before()]);
    assert_eq!(story.news().last(), Some(&back(-500, 3, over)));
}

/// The legacy of a link whose connection stalled 60 s before the discovery.
fn stalled() -> Legacy {
    Legacy {
        was_reachable: true,
        wary: false,
        outage: Some(OutageUnderWay {
            since: at(-60_000),
            cause: Cause::Stalled,
            errors: 13,
            attempts: Vec::new(),
        }),
    }
}

/// Nothing was heard on the connection since before it stalled, and sent data is not acknowledged.
fn in_a_blackhole() -> Sample {
    Sample {
        unacknowledged: true,
        timeouts: 9,
        ..silent(-65_000, -61_000)
    }
}

#[test]
fn a_connection_that_is_still_stalled_is_neither_a_recovery_nor_a_loss() {
    for sample in [in_a_blackhole(), silent(-65_000, -61_000), well(-60_000)] {
        let mut story = Story::begins();
        story.input(0, Input::Inherited(stalled()));
        story.found(10, 3, None, Phase::Established);
        // No look has shown it live, so nothing has to wait for the grace.
        story
            .sampled(10, 3, sample)
            .is_unreachable_since(-60_000, Cause::Stalled);
        assert!(story.told.contains(&Output::OutageGoesOn), "{sample:?}");
        story.until(4_999).sampled(4_999, 3, sample);
        assert_eq!(story.news(), [], "{sample:?}");
        assert_eq!(story.link.counts().total_checks(), 0, "{sample:?}");
        story.until(5_000);
        story.has(Liveness, 1, &[(Cause::Stalled, 1)]);
        // It heals.
        story
            .sampled(6_000, 3, well(5_990))
            .is_reachable_since(5_990);
        let over = outage(65_990, Cause::Stalled, 14, &[]);
        assert_eq!(story.news(), [back(5_990, 3, over)]);
        story.has(Connect, 0, &[]).has(Disconnect, 0, &[]);
    }
}

#[test]
fn the_end_of_a_connection_that_stalled_before_is_not_counted_again() {
    for heard in [Some(-65_000), None] {
        for looked_at in [false, true] {
            let mut story = Story::begins();
            story.input(0, Input::Inherited(stalled()));
            story.found(10, 3, None, Phase::Established);
            if looked_at {
                story.sampled(10, 3, in_a_blackhole());
            }
            let (phase, how) = (Phase::Held, End::TimedOut);
            story.ended_with(500, 3, None, phase, how, 110, heard);
            story
                .until(5_000)
                .is_unreachable_since(-60_000, Cause::Stalled);
            assert_eq!(story.news(), [], "{heard:?} {looked_at}");
            story.has(Connect, 0, &[]).has(Disconnect, 0, &[]);
            story.has_connects(0);
        }
    }
}

/// The connection was known only by its end.
#[test]
fn the_end_of_a_stalled_connection_that_was_not_listed_is_not_counted_again() {
    let mut story = Story::begins();
    story.input(0, Input::Inherited(stalled()));
    let (phase, how) = (Phase::Held, End::Reset);
    story.ended_with(500, 3, None, phase, how, 0, Some(-65_000));
    story.until(5_000);
    assert_eq!(story.news(), []);
    story.has(Disconnect, 0, &[]);
}

/// The client dialled again while no agent ran, and that connection is lost before a look.
#[test]
fn a_connection_that_was_heard_since_ends_the_outage_even_if_it_is_lost() {
    let mut story = Story::begins();
    story.input(0, Input::Inherited(stalled()));
    let (phase, how) = (Phase::Held, End::Reset);
    story.found(10, 3, None, Phase::Established);
    story.ended_with(500, 3, None, phase, how, 0, Some(-400));
    story.is_unreachable_since(500, Cause::ConnectionReset);
    story.has(Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
}

/// A refusal whose body does not end looks like an upgrade for 3 s, again and again.
#[test]
fn a_refusal_that_is_held_is_no_recovery_for_a_successor_either() {
    let mut story = Story::begins();
    let legacy = Legacy {
        wary: true,
        ..in_an_outage()
    };
    story.input(0, Input::Inherited(legacy));
    assert!(story.link.legacy().wary);
    story.upgraded(1_000, 2).until(5_000);
    assert!(story.link.legacy().outage.is_some(), "{:?}", story.told);
    // The client sends something after the answer, and is answered.
    story.sampled(5_100, 2, silent(5_050, 5_040)).until(5_300);
    story.is_reachable_since(1_002);
    assert!(!story.link.legacy().wary);
}

#[test]
fn what_is_left_is_what_was_inherited_until_it_is_known_better() {
    let mut first = Story::begins();
    first.input(0, Input::Inherited(in_an_outage()));
    // This agent is killed within the grace, and so is the next.
    assert_eq!(first.link.legacy(), in_an_outage());
    first.refused(1_000, 1);
    let mut second = Story::begins();
    second.input(0, Input::Inherited(first.link.legacy()));
    second
        .until(5_000)
        .is_unreachable_since(-60_000, Cause::ConnectionRefused);
    let left = second.link.legacy().outage.unwrap();
    assert_eq!((left.since, left.cause), (at(-60_000), Cause::PeerClosed));
    assert_eq!(left.errors, 6 + second.link.counts().total_errors());
    // It ends with the outage.
    second.upgraded(6_000, 2);
    let reachable = Legacy {
        was_reachable: true,
        outage: None,
        wary: false,
    };
    assert_eq!(second.link.legacy(), reachable);
}

#[test]
fn a_link_that_was_reachable_is_shown_when_it_is_seen_to_be() {
    let mut story = Story::begins();
    let reachable = Legacy {
        was_reachable: true,
        outage: None,
        wary: false,
    };
    story.input(0, Input::Inherited(reachable));
    assert_eq!(story.link.never_reachable(), None);
    story.until(5_000).is_unreachable_since(5_000, Cause::Other);
    story.has(Liveness, 1, &[(Cause::Other, 1)]);
}

#[test]
fn a_fan_out_inherits_that_it_was_reachable() {
    let mut story = Story::of_several();
    story.input(0, Input::Inherited(in_an_outage()));
    assert_eq!(story.link.never_reachable(), None);
    assert_eq!(story.link.state(), State::Idle);
}
