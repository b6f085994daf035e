//! What an agent leaves of a link to its successor.

use statlink_ebpf::{End, Phase};

use super::story::{Story, at, back, failed, outage, well};
use crate::{
    Cause,
    CheckKind::{Connect, Disconnect, Liveness},
    Input, Legacy, LinkMachine, OutageUnderWay, State,
};

/// What was left of an outage that began 60 s before the discovery, with five errors.
fn in_an_outage() -> Legacy {
    Legacy {
        was_reachable: true,
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
    story
        .until(5_000)
        .is_unreachable_since(-60_000, Cause::PeerClosed);
    // It was told by the agent before, and its onset is counted.
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
    // The next one has none of it.
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

#[test]
fn what_is_left_is_what_was_inherited_until_it_is_known_better() {
    let mut first = Story::begins();
    first.input(0, Input::Inherited(in_an_outage()));
    // It is killed within the grace, and so is the next.
    assert_eq!(first.link.legacy(), in_an_outage());
    first.refused(1_000, 1);
    let mut second = Story::begins();
    second.input(0, Input::Inherited(first.link.legacy()));
    second
        .until(5_000)
        .is_unreachable_since(-60_000, Cause::PeerClosed);
    let left = second.link.legacy().outage.unwrap();
    assert_eq!((left.since, left.cause), (at(-60_000), Cause::PeerClosed));
    assert_eq!(left.errors, 6 + second.link.counts().total_errors());
    // It ends with the outage.
    second.upgraded(6_000, 2);
    let reachable = Legacy {
        was_reachable: true,
        outage: None,
    };
    assert_eq!(second.link.legacy(), reachable);
}

#[test]
fn a_link_that_was_reachable_is_shown_when_it_is_seen_to_be() {
    let mut story = Story::begins();
    let reachable = Legacy {
        was_reachable: true,
        outage: None,
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
