//! Tests of refused upgrades whose body does not end: the client holds the connection for 3 s.

use statlink_ebpf::{End, Phase};

use super::story::{Story, failed, failure, id, silent, well};
use crate::{
    Cause,
    CheckKind::{Connect, Disconnect},
    Event, EventKind, Input,
};

impl Story {
    /// A dial at `time` that is answered and held; the client sends nothing more and closes it 3 s
    /// later.
    fn refused_at_last(&mut self, time: i64, n: u64) -> &mut Self {
        self.upgraded(time, n);
        for now in (time + 752..time + 3_000).step_by(500) {
            self.until(now).sampled(now, n, well(time + 2));
        }
        self.until(time + 3_000);
        let (begun, heard) = (Some(time), Some(time + 2));
        self.ended_with(
            time + 3_000,
            n,
            begun,
            Phase::Held,
            End::LocalClosed,
            0,
            heard,
        )
    }
}

fn outages(news: &[Event]) -> usize {
    let begun = |told: &&Event| matches!(told.kind, EventKind::Unreachable { .. });
    news.iter().filter(begun).count()
}

#[test]
fn a_dial_that_is_held_for_3_s_and_closed_without_a_further_word_was_refused() {
    let mut story = Story::begins();
    story.refused_at_last(0, 1).until(3_300);
    story
        .is_unreachable_since(3_000, Cause::HandshakeFailed)
        .has(Disconnect, 1, &[(Cause::HandshakeFailed, 1)])
        .has_connects(1);
}

#[test]
fn after_one_such_dial_the_next_ones_are_never_up() {
    let mut story = Story::begins();
    story.refused_at_last(0, 1);
    // The next one begins before the close has settled.
    let mut begun = 3_150;
    for n in 2..=12 {
        story.refused_at_last(begun, n);
        begun += 3_200;
    }
    story.until(begun + 1_000);
    story
        .is_unreachable_since(3_000, Cause::HandshakeFailed)
        .has(Connect, 12, &[(Cause::HandshakeFailed, 11)])
        .has_connects(1);
    let news = story.news();
    assert_eq!(outages(&news), 1, "{news:#?}");
    let last = failed(begun - 200, 12, Cause::HandshakeFailed, None, Some(3_000));
    assert!(news.contains(&failure(last)), "{news:#?}");
}

/// Its body comes to its end, or goes on until the client gives up: either way the client closes just
/// after it has heard something, as it answers a peer that closes.
#[test]
fn after_a_refusal_that_came_slowly_the_next_ones_are_never_up() {
    for (case, length) in [
        ("read to its end", 600),
        ("read for long", 2_200),
        ("given up", 2_998),
    ] {
        let mut story = Story::begins();
        for n in 1..=12_u64 {
            let begun = i64::try_from(n).unwrap() * 3_200;
            let closed = begun + length;
            story.upgraded(begun, n);
            for now in (begun + 300..closed).step_by(100) {
                story.until(now).sampled(now, n, silent(now - 5, begun + 1));
            }
            let (dialled, heard) = (Some(begun), Some(closed - 2));
            story.ended_with(closed, n, dialled, Phase::Held, End::LocalClosed, 0, heard);
        }
        story.until(60_000);
        let first = story.link.counts().errors(Disconnect, Cause::PeerClosed);
        assert_eq!(
            first, 1,
            "{case}: it cannot be told from a peer that closes"
        );
        let refused = story.link.counts().errors(Connect, Cause::HandshakeFailed);
        assert_eq!((refused, story.link.counts().connects()), (11, 1), "{case}");
        assert_eq!(outages(&story.news()), 1, "{case}");
    }
}

#[test]
fn a_peer_that_closes_one_which_had_said_more_makes_no_refusal() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story.until(1_252).sampled(1_252, 1, silent(2, 1_100));
    story.ended_with(
        2_000,
        1,
        Some(0),
        Phase::Held,
        End::LocalClosed,
        0,
        Some(1_998),
    );
    story.upgraded(2_200, 2).is_reachable_since(2_202);
}

#[test]
fn then_a_dial_is_up_once_the_client_has_sent_something_and_since_the_first_answer() {
    let mut story = Story::begins();
    story.refused_at_last(0, 1).until(3_400);
    story.upgraded(3_500, 2);
    story.is_unreachable_since(3_000, Cause::HandshakeFailed);
    story.asked();
    assert_eq!(story.until(4_251).asked(), []);
    assert_eq!(story.until(4_252).asked(), [id(2)]);
    story.until(6_840).sampled(6_840, 2, silent(6_836, 6_835));
    story.is_reachable_since(3_502).has_connects(2);
    // The next ones count as always.
    story.ended(9_000, 2, Phase::Held, End::Reset, Some(8_900));
    story.upgraded(9_100, 3).is_reachable_since(9_102);
}

#[test]
fn what_outlived_a_refusal_was_upgraded_although_nobody_looked() {
    let mut story = Story::begins();
    story.refused_at_last(0, 1).until(3_400);
    story.attempt(3_500, 2).established(3_501, 2);
    let (begun, heard) = (Some(3_500), Some(20_000));
    story.ended_with(21_000, 2, begun, Phase::Held, End::Reset, 104, heard);
    story.has(Connect, 2, &[]).has_connects(2).has(
        Disconnect,
        2,
        &[(Cause::ConnectionReset, 1), (Cause::HandshakeFailed, 1)],
    );
}

#[test]
fn a_dial_that_began_with_a_long_lookup_ends_that_much_sooner_after_its_connect() {
    const REFUSED: Cause = Cause::HandshakeFailed;
    const CLOSED: Cause = Cause::LocalClosed;
    for (case, looked_up, begun, cause) in [
        ("one lookup", &[1_000][..], 2_500, REFUSED),
        ("the first of several", &[1_000, 2_400], 2_500, REFUSED),
        ("none", &[], 2_500, CLOSED),
        ("one of an older dial's", &[0], 1_500, CLOSED),
        ("one from before any client waits", &[1_000], 4_000, CLOSED),
    ] {
        let mut story = Story::begins();
        for &time in looked_up {
            story.input(time, Input::LookedUp);
        }
        story.upgraded(begun, 1).until(begun + 1_500);
        let ended = begun + 1_500;
        let heard = Some(begun + 2);
        story.ended_with(
            ended,
            1,
            Some(begun),
            Phase::Held,
            End::LocalClosed,
            0,
            heard,
        );
        story.until(ended + 400);
        let losses = story.link.counts().errors(Disconnect, cause);
        assert_eq!(losses, 1, "{case}");
    }
}

#[test]
fn a_client_that_has_sent_something_since_closed_for_another_reason() {
    let mut story = Story::begins();
    story.upgraded(0, 1);
    story.until(1_252).sampled(1_252, 1, silent(2, 1_100));
    story.until(3_000);
    story.ended_with(3_000, 1, Some(0), Phase::Held, End::LocalClosed, 0, Some(2));
    story
        .until(3_300)
        .has(Disconnect, 1, &[(Cause::LocalClosed, 1)]);
}
