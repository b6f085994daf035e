//! Tests of destinations: the peer, other addresses, and addresses that turn out to be right or
//! wrong.

use std::net::IpAddr;

use statlink_ebpf::{End, Phase};

use super::story::{Story, at, event, failed, failure, id, peer, unanswered, well};
use crate::{Cause, CheckKind, EventKind, Input, State};

/// The peer has these addresses.
fn known(n: &[u64]) -> Input {
    Input::PeerAddresses(Some(n.iter().map(|&n| peer(n).ip()).collect()))
}

#[test]
fn an_address_of_the_peer_is_right() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).upgraded(100, 1).until(4_000);
    story
        .is_reachable_since(102)
        .has(CheckKind::Connect, 1, &[])
        .has_connects(1);
}

#[test]
fn one_that_was_right_stays_so_though_the_addresses_were_unknown_for_a_while() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).upgraded(100, 1);
    story
        .input(1_000, Input::PeerAddresses(None))
        .input(2_000, known(&[2]))
        .until(4_500)
        .sampled(4_500, 1, well(4_400));
    story
        .is_reachable_since(102)
        .has(CheckKind::Disconnect, 0, &[]);
}

#[test]
fn an_ipv4_address_is_itself_in_ipv6() {
    let mut story = Story::begins();
    let IpAddr::V4(address) = peer(1).ip() else {
        panic!("the peers are IPv4");
    };
    let mapped = IpAddr::V6(address.to_ipv6_mapped());
    story
        .input(0, Input::PeerAddresses(Some([mapped].into())))
        .upgraded(100, 1);
    story.is_reachable_since(102);
}

#[test]
fn whatever_fails_at_a_wrong_address_is_the_wrong_peer() {
    for (how, errno) in [
        (End::Refused, 111),
        (End::Unanswered, 0),
        (End::HostUnreachable, 113),
    ] {
        let mut story = Story::begins();
        story.input(0, known(&[1])).attempt(100, 2);
        story.ended_with(101, 2, Some(100), Phase::Connecting, how, errno, None);
        story.until(2_099).has(CheckKind::Connect, 0, &[]);
        story.until(2_500);
        story.has(CheckKind::Connect, 1, &[(Cause::WrongPeer, 1)]);
        let errno = (errno != 0).then_some(errno);
        assert_eq!(
            story.news(),
            [failure(failed(101, 2, Cause::WrongPeer, errno, Some(1)))],
            "{how:?}"
        );
    }
}

#[test]
fn an_attempt_that_takes_longer_than_the_doubt_fails_when_it_fails() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).attempt(100, 2).until(3_099);
    story.has(CheckKind::Connect, 0, &[]);
    story.ended(3_100, 2, Phase::Connecting, End::Unanswered, None);
    story
        .until(3_500)
        .has(CheckKind::Connect, 1, &[(Cause::WrongPeer, 1)]);
}

#[test]
fn one_at_a_wrong_address_that_never_answers_fails_by_its_address() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).attempt(100, 2);
    story.established(101, 2).until(3_101);
    story.sampled(3_101, 2, unanswered());
    story.has(CheckKind::Connect, 1, &[(Cause::WrongPeer, 1)]);
}

#[test]
fn an_upgrade_by_somebody_else_is_an_error_and_its_end_none() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).upgraded(100, 2);
    assert_eq!(story.link.state(), State::Starting);
    story.until(2_100).sampled(2_100, 2, well(2_050));
    story.has(CheckKind::Connect, 1, &[(Cause::WrongPeer, 1)]);
    story.asked();
    assert_eq!(story.until(2_599).asked(), []);
    assert_eq!(story.until(2_600).asked(), [id(2)]);
    story.until(5_500).sampled(5_500, 2, well(5_400));
    story.is_unreachable_since(5_000, Cause::WrongPeer);
    story.ended(6_000, 2, Phase::Held, End::PeerClosed, Some(5_900));
    story
        .until(7_000)
        .is_unreachable_since(5_000, Cause::WrongPeer)
        .has(CheckKind::Connect, 1, &[(Cause::WrongPeer, 1)])
        .has(CheckKind::Disconnect, 0, &[])
        .has_connects(0);
}

#[test]
fn one_that_ends_while_in_doubt_counts_once() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).upgraded(100, 2);
    story.ended(1_000, 2, Phase::Held, End::PeerClosed, Some(900));
    story.ended(1_000, 2, Phase::Held, End::PeerClosed, Some(900));
    story
        .until(3_000)
        .has(CheckKind::Connect, 1, &[(Cause::WrongPeer, 1)])
        .has(CheckKind::Disconnect, 0, &[])
        .has_connects(0);
}

#[test]
fn one_that_ended_while_in_doubt_takes_no_later_record_for_news() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).attempt(100, 2);
    story.ended(150, 2, Phase::Connecting, End::Refused, None);
    story.established(140, 2).sampled(500, 2, well(145));
    assert_eq!(story.link.connections().count(), 0);
    story
        .input(600, known(&[1, 2]))
        .has(CheckKind::Connect, 1, &[(Cause::ConnectionRefused, 1)])
        .has_connects(0);
}

#[test]
fn an_address_that_turns_up_in_time_was_right_all_along() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).upgraded(100, 2);
    story
        .input(1_500, known(&[1, 2]))
        .sampled(1_501, 2, well(102));
    story
        .is_reachable_since(102)
        .has(CheckKind::Connect, 1, &[])
        .has_connects(1);
}

#[test]
fn an_end_in_doubt_is_what_it_is_if_its_address_turns_up() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).refused(100, 2).upgraded(300, 3);
    story.ended(1_000, 3, Phase::Held, End::Reset, Some(900));
    story.input(1_500, known(&[2, 3])).until(4_000);
    story
        .has(CheckKind::Connect, 2, &[(Cause::ConnectionRefused, 1)])
        .has(CheckKind::Disconnect, 1, &[(Cause::ConnectionReset, 1)])
        .has_connects(1);
}

#[test]
fn a_wrong_one_counts_once_its_address_turns_up_late() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).upgraded(100, 2);
    story.until(2_100).sampled(2_100, 2, well(102));
    story
        .until(5_000)
        .is_unreachable_since(5_000, Cause::WrongPeer);
    story
        .input(9_000, known(&[2]))
        .sampled(9_001, 2, well(8_900));
    assert!(matches!(story.link.state(), State::Reachable { .. }));
    story
        .has(CheckKind::Connect, 1, &[(Cause::WrongPeer, 1)])
        .has(CheckKind::Disconnect, 0, &[])
        .has_connects(1);
}

#[test]
fn who_was_right_stays_right() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).upgraded(100, 1);
    story.input(1_000, known(&[2])).until(4_000);
    story.is_reachable_since(102);
    story.ended(4_000, 1, Phase::Held, End::PeerClosed, Some(3_990));
    story.has(CheckKind::Disconnect, 1, &[(Cause::PeerClosed, 1)]);
    // The next dial is judged by what is known then.
    story.refused(4_100, 3).until(7_000);
    story.has(CheckKind::Connect, 2, &[(Cause::WrongPeer, 1)]);
}

#[test]
fn who_was_live_before_anything_was_known_is_lost_if_wrong() {
    let mut story = Story::begins();
    story.upgraded(100, 2).input(1_000, known(&[1]));
    story.until(2_999).is_reachable_since(102);
    story
        .until(3_000)
        .is_unreachable_since(3_000, Cause::WrongPeer);
    story.sampled(3_200, 2, well(3_100));
    story.is_unreachable_since(3_000, Cause::WrongPeer);
    story.ended(4_000, 2, Phase::Held, End::PeerClosed, Some(3_900));
    story
        .until(4_900)
        .has(CheckKind::Disconnect, 1, &[(Cause::WrongPeer, 1)])
        .has(CheckKind::Connect, 1, &[]);
}

#[test]
fn nothing_is_wrong_while_nothing_is_known() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).upgraded(100, 2);
    story
        .input(1_000, Input::PeerAddresses(None))
        .sampled(1_001, 2, well(102));
    story
        .is_reachable_since(102)
        .has(CheckKind::Connect, 1, &[]);
}

#[test]
fn what_was_found_wrong_stays_wrong_while_nothing_is_known() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).upgraded(100, 2);
    // The doubt has ended, and so has the grace.
    story.sampled(2_200, 2, well(102)).until(5_100);
    assert!(!story.news().is_empty());
    story
        .input(6_000, Input::PeerAddresses(None))
        .sampled(6_100, 2, well(6_050))
        .input(6_200, known(&[1]))
        .sampled(6_300, 2, well(6_250));
    assert_eq!(story.news(), []);
    // Only its address can make it right again.
    story
        .input(6_400, known(&[1, 2]))
        .sampled(6_800, 2, well(6_750));
    assert!(!story.news().is_empty());
}

#[test]
fn a_process_that_ends_leaves_no_doubt_behind() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).refused(100, 2).attempt(200, 3);
    // Its own end, which is not counted.
    story.ended(900, 3, Phase::Connecting, End::Exiting, None);
    story.process_ended(1_000);
    story.has(CheckKind::Connect, 1, &[(Cause::WrongPeer, 1)]);
    assert_eq!(
        story.news(),
        [
            failure(failed(101, 2, Cause::WrongPeer, Some(111), Some(1))),
            event(at(1_000), EventKind::Ended),
        ]
    );
    assert_eq!(story.link.connections().next(), None::<_>, "{:?}", id(3));
}

#[test]
fn an_attempt_given_up_long_before_the_process_ended_is_not_its_end() {
    let mut story = Story::begins();
    story.input(0, known(&[1])).attempt(200, 3);
    story.ended(500, 3, Phase::Connecting, End::Abandoned, None);
    story.process_ended(1_000);
    story.has(CheckKind::Connect, 1, &[(Cause::WrongPeer, 1)]);
}
