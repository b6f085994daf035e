//! Tests of the unknown state: neither 1, nor 0, nor the last value.

use statlink_ebpf::{End, Phase};

use super::story::{Story, at, event, failed, outage, peer, to};
use crate::{
    Cause,
    CheckKind::{Connect, Disconnect, Liveness},
    EventKind, Input, LinkMachine, State, UnknownReason,
};

const NO_ROOM: UnknownReason = UnknownReason::NoRoom;

impl<M: LinkMachine> Story<M> {
    fn evidence_lost(&mut self, time: i64, reason: UnknownReason) -> &mut Self {
        self.input(time, Input::EvidenceLost(reason))
    }

    fn evidence_back(&mut self, time: i64, reason: UnknownReason) -> &mut Self {
        self.input(time, Input::EvidenceBack(reason))
    }

    #[track_caller]
    fn is_unknown_since(&self, time: i64, reason: UnknownReason) -> &Self {
        let since = at(time);
        assert_eq!(self.link.state(), State::Unknown { since, reason });
        self
    }
}

fn unknown(time: i64, reason: UnknownReason) -> crate::Event {
    event(at(time), EventKind::Unknown { reason })
}

#[test]
fn a_link_that_may_have_a_connection_nobody_sees_is_unknown_and_not_checked() {
    let mut story = Story::begins();
    story.evidence_lost(1_000, NO_ROOM).until(60_000);
    story.is_unknown_since(1_000, NO_ROOM).has(Liveness, 0, &[]);
    assert_eq!(story.news(), [unknown(1_000, NO_ROOM)]);
    assert_eq!(story.link.state().reachable(), None);
}

#[test]
fn that_older_connections_are_not_listed_is_about_targets_that_nobody_knows() {
    let mut story = Story::of_several();
    story.evidence_lost(0, UnknownReason::NotListed);
    story.is_unknown_since(0, UnknownReason::NotListed);
    story.refused(100, to(1, 100)).until(6_000);
    assert!(matches!(story.link.state(), State::Unreachable { .. }));
    for (reason, is_told) in [(NO_ROOM, true), (UnknownReason::NotListed, false)] {
        let mut story = Story::of_several();
        story.evidence_lost(0, reason).refused(100, to(1, 100));
        story.until(6_000);
        let unknown = story.link.state().unknown_reason();
        assert_eq!(unknown == Some(reason), is_told, "{reason}");
    }
}

#[test]
fn a_live_connection_that_is_looked_at_is_evidence_enough() {
    let mut story = Story::begins();
    story.upgraded(0, 1).news();
    story.evidence_lost(1_000, NO_ROOM);
    story.is_reachable_since(2);
    assert_eq!(story.news(), []);
}

#[test]
fn a_loss_is_counted_and_begins_no_outage_while_another_connection_may_be_unseen() {
    let mut story = Story::begins();
    story.upgraded(0, 1).evidence_lost(1_000, NO_ROOM);
    story.ended(2_000, 1, Phase::Held, End::PeerClosed, Some(1_900));
    story
        .is_unknown_since(2_000, NO_ROOM)
        .has(Disconnect, 1, &[(Cause::PeerClosed, 1)]);
    story
        .refused(2_100, 2)
        .has(Connect, 2, &[(Cause::ConnectionRefused, 1)]);
    story.upgraded(3_000, 3).is_reachable_since(3_002);
    let news = story.news();
    let reachable = EventKind::Reachable {
        outage: None,
        peer_address: peer(3),
    };
    assert!(news.contains(&unknown(2_000, NO_ROOM)), "{news:#?}");
    assert_eq!(news.last(), Some(&event(at(3_002), reachable)));
}

#[test]
fn once_it_can_be_told_again_a_link_has_its_grace_anew() {
    let mut story = Story::begins();
    story.evidence_lost(1_000, NO_ROOM).until(30_000);
    story.evidence_back(30_000, NO_ROOM).until(34_999);
    assert_eq!(story.link.state(), State::Starting);
    story
        .until(35_000)
        .is_unreachable_since(35_000, Cause::Other);
    // Nobody saw whether it dialled before.
    story
        .until(49_999)
        .is_unreachable_since(35_000, Cause::Other);
    story
        .until(50_000)
        .is_unreachable_since(35_000, Cause::NoAttempt);
}

#[test]
fn an_outage_that_was_under_way_goes_on() {
    let mut story = Story::begins();
    story.refused(4_000, 1).until(5_000).news();
    story.evidence_lost(6_000, NO_ROOM);
    story.is_unknown_since(6_000, NO_ROOM);
    story.evidence_back(8_000, NO_ROOM);
    story.is_unreachable_since(5_000, Cause::ConnectionRefused);
    let refused = failed(4_001, 1, Cause::ConnectionRefused, Some(111), Some(1));
    let again = EventKind::Unreachable {
        cause: Cause::ConnectionRefused,
        peer_address: Some(peer(1)),
        proxy_address: None,
        attempts: vec![refused],
    };
    assert_eq!(
        story.news(),
        [unknown(6_000, NO_ROOM), event(at(8_000), again)]
    );
    story.upgraded(9_000, 2);
    let over = outage(4_002, Cause::ConnectionRefused, 2, &[refused]);
    assert!(story.news().contains(&super::story::back(9_002, 2, over)));
}

#[test]
fn each_reason_holds_until_it_is_gone_itself() {
    let mut story = Story::begins();
    story.evidence_lost(1_000, NO_ROOM);
    story.evidence_lost(2_000, UnknownReason::EventsMissed);
    story.evidence_back(3_000, NO_ROOM);
    story.is_unknown_since(1_000, UnknownReason::EventsMissed);
    story.evidence_back(4_000, UnknownReason::EventsMissed);
    assert_eq!(story.link.state(), State::Starting);
    assert_eq!(story.news().len(), 1);
}

#[test]
fn a_dial_says_that_there_is_no_older_connection() {
    let mut story = Story::begins();
    story.evidence_lost(0, UnknownReason::NotListed);
    story.until(30_000);
    story.is_unknown_since(0, UnknownReason::NotListed);
    story.refused(30_000, 1).until(35_000);
    story.is_unreachable_since(35_000, Cause::ConnectionRefused);
}

#[test]
fn a_fan_out_is_unknown_for_the_target_that_is() {
    let mut story = Story::of_several();
    story.upgraded(100, to(1, 100)).upgraded(500, to(2, 500));
    story.evidence_lost(1_000, NO_ROOM);
    story.is_reachable_since(102);
    let lost = |story: &mut Story<_>, n, begun, time| {
        let (connection, heard) = (to(n, begun), Some(begun + 2));
        story.ended_with(
            time,
            connection,
            Some(begun),
            Phase::Held,
            End::Reset,
            104,
            heard,
        );
    };
    lost(&mut story, 2, 500, 1_500);
    story.is_unknown_since(1_500, NO_ROOM);
    story
        .upgraded(2_000, to(2, 2_000))
        .is_reachable_since(2_002);
    lost(&mut story, 2, 2_000, 3_000);
    story
        .evidence_back(4_000, NO_ROOM)
        .is_reachable_since(4_000);
}

#[test]
fn a_fan_out_of_which_no_target_is_known_may_have_some() {
    let mut story = Story::of_several();
    story.evidence_lost(100, UnknownReason::NotListed);
    story.is_unknown_since(100, UnknownReason::NotListed);
    story.upgraded(500, to(1, 500)).is_reachable_since(502);
    let mut story = Story::of_several();
    story.evidence_lost(100, NO_ROOM);
    story.evidence_back(200, NO_ROOM);
    assert_eq!(story.link.state(), State::Idle);
    let told = [unknown(100, NO_ROOM), event(at(200), EventKind::Idle)];
    assert_eq!(story.news(), told);
}

#[test]
fn a_life_after_one_that_never_connected_has_no_grace() {
    let mut story = Story::begins();
    story.refused(1_000, 1);
    assert_eq!(story.link.never_reachable(), Some(Cause::ConnectionRefused));
    story.process_ended(2_000);
    assert_eq!(story.link.never_reachable(), Some(Cause::ConnectionRefused));
    let mut next = Story::begins();
    next.input(0, Input::FollowsUnreached(Cause::ConnectionRefused));
    next.is_unreachable_since(0, Cause::ConnectionRefused);
    next.has(Liveness, 1, &[(Cause::ConnectionRefused, 1)]);
    assert_eq!(next.news().len(), 1);
    next.upgraded(1_000, 2);
    let over = outage(1_002, Cause::ConnectionRefused, 1, &[]);
    assert_eq!(
        next.news().last(),
        Some(&super::story::back(1_002, 2, over))
    );
    assert_eq!(next.link.never_reachable(), None);
}
