//! Tests of name lookups, with and without attempts that follow.

use statlink_ebpf::{End, Phase};

use super::story::Story;
use crate::{Cause, CheckKind, Input};

/// The client's dials find no address: a burst of lookups every 3.1 s.
fn lookups(story: &mut Story, from: i64, until: i64) {
    for burst in (from..until).step_by(3_100) {
        for lookup in 0..4 {
            let time = burst + lookup * 700;
            story.until(time).input(time, Input::LookedUp);
        }
    }
}

#[test]
fn lookups_without_an_attempt_are_the_cause_when_the_grace_ends() {
    let mut story = Story::begins();
    lookups(&mut story, 50, 4_500);
    story.until(5_000).is_unreachable_since(5_000, Cause::Dns);
    story.has(CheckKind::Liveness, 1, &[(Cause::Dns, 1)]);
}

#[test]
fn they_stay_the_cause_for_as_long_as_they_go_on() {
    let mut story = Story::begins();
    lookups(&mut story, 50, 120_000);
    story.is_unreachable_since(5_000, Cause::Dns);
    // The last lookup was at about 121.4 s.
    story.until(140_000).is_unreachable_since(5_000, Cause::Dns);
    story
        .until(150_000)
        .is_unreachable_since(5_000, Cause::NoAttempt);
}

#[test]
fn a_slow_lookup_that_succeeds_is_none() {
    let mut story = Story::begins();
    story.input(100, Input::LookedUp).upgraded(4_100, 1);
    story.is_reachable_since(4_102);
    let mut story = Story::begins();
    story.upgraded(100, 1);
    story.ended(1_000, 1, Phase::Held, End::PeerClosed, Some(990));
    story
        .input(1_100, Input::LookedUp)
        .refused(5_100, 2)
        .until(5_200);
    story
        .is_unreachable_since(1_000, Cause::ConnectionRefused)
        .has(CheckKind::Liveness, 1, &[(Cause::PeerClosed, 1)]);
}

#[test]
fn a_link_that_was_lost_and_finds_no_name_is_told_so() {
    let mut story = Story::begins();
    story.upgraded(100, 1);
    story.ended(1_000, 1, Phase::Held, End::PeerClosed, Some(990));
    story.input(1_100, Input::LookedUp);
    story
        .until(5_649)
        .is_unreachable_since(1_000, Cause::PeerClosed);
    story.until(5_650).is_unreachable_since(1_000, Cause::Dns);
    story.refused(9_000, 2);
    story.is_unreachable_since(1_000, Cause::ConnectionRefused);
}

#[test]
fn other_lookups_tell_nothing_while_the_client_backs_off() {
    let mut story = Story::begins();
    // The longest pauses there are, with other lookups in between.
    let (mut now, mut pause) = (100_i64, 150_i64);
    for n in 1..=20 {
        story.until(now).refused(now, 100 + n);
        let next = now + pause;
        let mut lookup = now + 10;
        while lookup < next {
            story.until(lookup).input(lookup, Input::LookedUp);
            lookup += 1_000;
        }
        (now, pause) = (next, pause * 13 / 10);
    }
    story.until(now);
    for cause in [Cause::Dns, Cause::ConnectionRefused] {
        let errors = story.link.counts().errors(CheckKind::Liveness, cause);
        assert_eq!(errors > 0, cause == Cause::ConnectionRefused, "{cause}");
    }
}

#[test]
fn lookups_of_a_link_that_is_up_tell_nothing() {
    let mut story = Story::begins();
    story.upgraded(100, 1);
    for time in (1_000..3_000).step_by(200) {
        story.input(time, Input::LookedUp);
    }
    story.ended(3_000, 1, Phase::Held, End::PeerClosed, Some(2_990));
    story
        .until(12_000)
        .is_unreachable_since(3_000, Cause::PeerClosed);
}

#[test]
fn a_recovery_makes_the_client_s_next_pause_short_again() {
    let mut story = Story::begins();
    for n in 1..=12 {
        let time = i64::try_from(n).unwrap() * 100;
        story.refused(time, n);
    }
    story.upgraded(2_000, 20);
    story.ended(3_000, 20, Phase::Held, End::PeerClosed, Some(2_990));
    story.input(3_100, Input::LookedUp);
    story.until(7_650).is_unreachable_since(3_000, Cause::Dns);
}
