//! Tests of several peers at a time, which come and go.

use statlink_ebpf::{End, Phase};

use super::story::{Story, at, back, event, id, ms, outage, peer, silent, to, well};
use crate::{
    Cause, CheckKind, EndedOutage, Event, EventKind, Fanout, Input, LinkMachine as _, ProxyEvent,
    Sample, State, limits::TARGETS,
};

type Several = Story<Fanout>;

impl Several {
    /// Upgraded to the `n`th peer at `time` + 2, and heard until `until`.
    fn up(&mut self, n: u64, time: i64) -> &mut Self {
        self.upgraded(time, to(n, time))
    }

    /// The connections to these peers, attempted at these times, are heard until `time`.
    fn lives(&mut self, connections: &[(u64, i64)], from: i64, time: i64) -> &mut Self {
        for now in (from..=time).step_by(500) {
            self.until(now);
            for &(n, begun) in connections {
                self.sampled(now, to(n, begun), well(now));
            }
        }
        self
    }

    fn ends(&mut self, n: u64, begun: i64, time: i64, how: End, heard: i64) -> &mut Self {
        let connection = to(n, begun);
        self.ended_with(
            time,
            connection,
            Some(begun),
            Phase::Held,
            how,
            0,
            Some(heard),
        )
    }

    /// Refused `n` times from `time` on, with the pauses of Knative's client; returns when it would
    /// dial next.
    fn refused_in_a_row(&mut self, n: u64, time: i64, dials: i32) -> i64 {
        let (mut now, mut pause) = (time, 150);
        for _ in 0..dials {
            self.until(now).refused(now, to(n, now));
            now += pause;
            pause = pause * 13 / 10;
        }
        now
    }

    /// The outage that has ended.
    #[track_caller]
    fn over(&mut self) -> EndedOutage {
        let mut news = self.news().into_iter();
        news.find_map(|told| {
            if let EventKind::Reachable { outage, .. } = told.kind {
                outage
            } else {
                None
            }
        })
        .expect("an outage is over")
    }

    fn targets(&self) -> usize {
        self.link.targets().count()
    }
}

#[test]
fn without_a_target_there_is_nothing_to_tell() {
    let mut story = Story::of_several();
    story.until(60_000);
    assert_eq!(story.link.state(), State::Idle);
    assert_eq!(story.link.next_deadline(), None);
    assert_eq!(story.news(), []);
    assert_eq!(story.link.counts().total_checks(), 0);
}

#[test]
fn it_is_reachable_while_every_target_is() {
    let mut story = Story::of_several();
    story.up(1, 100);
    story.is_reachable_since(102);
    story.up(2, 1_000);
    story.is_reachable_since(102).has_connects(2);
    story.ends(2, 1_000, 2_000, End::Reset, 1_900);
    story
        .is_unreachable_since(2_000, Cause::ConnectionReset)
        .has(CheckKind::Disconnect, 1, &[(Cause::ConnectionReset, 1)]);
    assert_eq!(story.link.peer_address(), Some(peer(2)));
    story.news();
    story.up(2, 2_100);
    story.is_reachable_since(2_102).has_connects(3);
    let over = outage(102, Cause::ConnectionReset, 1, &[]);
    assert!(story.news().contains(&back(2_102, 2, over)));
}

#[test]
fn outages_that_overlap_are_one() {
    let mut story = Story::of_several();
    story.up(1, 100).up(2, 1_000).news();
    story.ends(1, 100, 2_000, End::PeerClosed, 1_900);
    story.ends(2, 1_000, 2_100, End::Reset, 1_900);
    story.is_unreachable_since(2_000, Cause::PeerClosed);
    story.up(1, 2_200);
    story.is_unreachable_since(2_000, Cause::ConnectionReset);
    story.up(2, 2_600);
    story.is_reachable_since(2_602);
    let news = story.news();
    let begun = |told: &&Event| matches!(told.kind, EventKind::Unreachable { .. });
    assert_eq!(news.iter().filter(begun).count(), 1);
    let over = outage(602, Cause::PeerClosed, 2, &[]);
    assert!(news.contains(&back(2_602, 2, over)), "{news:#?}");
}

#[test]
fn an_outage_whose_cause_is_not_known_is_reported_once() {
    let mut story = Story::of_several();
    story.up(1, 100).up(2, 1_000).news();
    story.ends(1, 100, 2_000, End::Other, 1_900);
    story.ends(2, 1_000, 2_100, End::Reset, 1_900);
    // The first recovers and is lost again as before, while the second keeps failing.
    story.up(1, 2_200);
    story.ends(1, 2_200, 3_000, End::Other, 2_900);
    story.is_unreachable_since(2_000, Cause::ConnectionReset);
    let news = story.news();
    let begun = |told: &&Event| matches!(told.kind, EventKind::Unreachable { .. });
    assert_eq!(news.iter().filter(begun).count(), 1, "{news:#?}");
}

#[test]
fn a_live_connection_that_the_client_closes_and_does_not_dial_again_is_no_loss() {
    let mut story = Story::of_several();
    story.up(1, 100).up(2, 1_000).news();
    // Knative's Shutdown() waits for the reader, which gives up 10 s after the last pong.
    story.lives(&[(1, 100)], 1_500, 11_900);
    story.ends(2, 1_000, 11_900, End::LocalClosed, 1_900);
    story.until(12_200);
    assert_eq!(story.targets(), 1);
    story.is_reachable_since(102);
    story
        .has(CheckKind::Disconnect, 0, &[])
        .has(CheckKind::Connect, 2, &[]);
    story.lives(&[(1, 100)], 12_400, 20_000);
    story.ends(1, 100, 20_000, End::LocalClosed, 10_000);
    story.until(60_000);
    assert_eq!(story.link.state(), State::Idle);
    assert_eq!(story.link.next_deadline(), None);
    assert!(story.news().contains(&event(at(20_000), EventKind::Idle)));
    // Every 5 s: for one target from 100 until its close settled, for the other from 1,000 on.
    story.has(CheckKind::Liveness, 4 + 2, &[]);
}

#[test]
fn a_live_connection_that_the_client_closes_is_let_go_even_if_it_dials_again() {
    let mut story = Story::of_several();
    story.up(1, 100);
    story.ends(1, 100, 12_000, End::LocalClosed, 2_000);
    story.up(1, 12_001);
    story
        .until(12_400)
        .has(CheckKind::Disconnect, 0, &[])
        .has_connects(2);
    story.is_reachable_since(102);
}

#[test]
fn a_peer_that_was_let_go_and_then_refuses_is_unreachable_after_a_grace_of_its_own() {
    let mut story = Story::of_several();
    story.up(1, 100).up(2, 200);
    story.attempt(11_990, to(1, 11_990));
    story.ends(1, 100, 12_000, End::LocalClosed, 2_000);
    story.ended(12_500, to(1, 11_990), Phase::Connecting, End::Refused, None);
    story.refused_in_a_row(1, 12_600, 14);
    story.is_unreachable_since(17_000, Cause::ConnectionRefused);
}

/// Leases move back and forth: the next connection to an owner succeeds shortly before or after the
/// client lets go of the former one.
#[test]
fn leases_that_move_all_the_time_are_no_outage() {
    for lead in [-2, -1, 0, 1, 200, 280] {
        let mut story = Story::of_several();
        let mut begun = 100;
        story.up(1, begun).news();
        for _ in 0..40 {
            let next = begun + 1_500;
            story.lives(&[(1, begun)], begun + 300, next - 400);
            story.attempt(next - lead - 1, to(1, next));
            story.established(next - lead, to(1, next));
            story.ends(1, begun, next, End::LocalClosed, next - 100);
            story.until(next + 252);
            story.sampled(next + 252, to(1, next), well(next - lead + 1));
            story.until(next + 600);
            begun = next;
        }
        let news = story.news();
        let outage = |told: &Event| matches!(told.kind, EventKind::Unreachable { .. });
        assert!(!news.iter().any(outage), "{lead}: {news:#?}");
        story.has(CheckKind::Disconnect, 0, &[]).has(
            CheckKind::Liveness,
            story.link.counts().checks(CheckKind::Liveness),
            &[],
        );
    }
}

#[test]
fn silence_is_a_stall_only_if_a_ping_was_sent_into_it() {
    // A stat every second, and pings at 5,230 and so on, because the last pong came at 1,900.
    let sent = |last: i64, now: i64| {
        let sends = [2_500, 3_500, 4_500, 5_230, 5_500, 6_500, 7_500];
        let until = sends.into_iter().filter(|&sent| sent <= now.min(last));
        until.max().unwrap_or(1_899)
    };
    for (last, stalls) in [(5_000, false), (9_000, true)] {
        let mut story = Story::of_several();
        story.up(1, 100);
        for now in (2_000..=11_800).step_by(100) {
            let silent = silent(1_900, sent(last, now));
            story.until(now).sampled(now, to(1, 100), silent);
        }
        if stalls {
            story.is_unreachable_since(6_900, Cause::Stalled);
            continue;
        }
        story.is_reachable_since(102);
        story.ends(1, 100, 11_900, End::LocalClosed, 1_900);
        story.until(20_000);
        assert_eq!(story.link.state(), State::Idle);
        story.has(CheckKind::Disconnect, 0, &[]);
    }
}

#[test]
fn one_of_two_connections_to_an_owner_of_two_buckets_may_be_closed() {
    let mut story = Story::of_several();
    story.up(1, 100).up(1, 1_000);
    story.lives(&[(1, 1_000)], 1_500, 11_900);
    story.ends(1, 100, 11_900, End::LocalClosed, 1_900);
    story.lives(&[(1, 1_000)], 12_000, 20_000);
    story
        .is_reachable_since(102)
        .has(CheckKind::Disconnect, 0, &[]);
}

#[test]
fn a_target_that_is_not_dialled_any_more_has_been_given_up() {
    let mut story = Story::of_several();
    story.up(1, 100).up(2, 1_000);
    story.ends(2, 1_000, 2_000, End::PeerClosed, 1_900);
    let next = story.refused_in_a_row(2, 2_050, 8);
    story.sampled(next, to(1, 100), well(next));
    story.is_unreachable_since(2_000, Cause::ConnectionRefused);
    story.news();
    story.until(next + 1_400);
    story.is_unreachable_since(2_000, Cause::ConnectionRefused);
    story.until(next + 2_500);
    assert!(matches!(story.link.state(), State::Reachable { .. }));
    assert_eq!(story.targets(), 1);
    let over = |told: &Event| matches!(told.kind, EventKind::Reachable { outage: Some(ref over), .. } if over.cause == Cause::PeerClosed);
    assert!(story.news().iter().any(over));
    // Its counts stay.
    story.has(CheckKind::Connect, 10, &[(Cause::ConnectionRefused, 8)]);
}

#[test]
fn the_client_s_longest_pauses_are_no_giving_up() {
    let mut story = Story::of_several();
    story.up(1, 100);
    story.ends(1, 100, 2_000, End::PeerClosed, 1_900);
    story.refused_in_a_row(1, 2_050, 19);
    story.is_unreachable_since(2_000, Cause::ConnectionRefused);
    story.has(CheckKind::Connect, 20, &[(Cause::ConnectionRefused, 19)]);
}

#[test]
fn an_address_that_another_stands_in_for_is_never_missed() {
    // A mesh: the pod's address drops SYNs, the bucket's Service answers.
    let mut story = Story::of_several();
    story.attempt(100, to(1, 100));
    story.until(3_100).ended_with(
        3_100,
        to(1, 100),
        Some(100),
        Phase::Connecting,
        End::Unanswered,
        0,
        None,
    );
    story.up(2, 3_110);
    story.lives(&[(2, 3_110)], 3_400, 20_000);
    assert!(matches!(story.link.state(), State::Reachable { .. }));
    assert_eq!(story.targets(), 1);
    let news = story.news();
    let bad = |told: &Event| matches!(told.kind, EventKind::Unreachable { .. });
    assert!(!news.iter().any(bad), "{news:#?}");
    story.has(CheckKind::Connect, 2, &[(Cause::Timeout, 1)]);
}

#[test]
fn an_owner_that_answers_at_neither_of_its_addresses_is_missed() {
    let mut story = Story::of_several();
    let mut now = 100;
    // 500 ms for each, and again with the next stat.
    while now < 12_000 {
        for n in [1, 2] {
            story.attempt(now, to(n, now));
            let end = now + 3_000;
            story.until(end).ended_with(
                end,
                to(n, now),
                Some(now),
                Phase::Connecting,
                End::Unanswered,
                0,
                None,
            );
            now = end + 10;
        }
        now += 500;
    }
    story.is_unreachable_since(5_100, Cause::Timeout);
    // There are no more stats to forward.
    story.until(60_000);
    assert_eq!(story.link.state(), State::Idle);
}

#[test]
fn a_target_s_grace_changes_nothing() {
    let mut story = Story::of_several();
    story.up(1, 100);
    story.refused(1_000, to(2, 1_000));
    story.is_reachable_since(102);
    let mut alone = Story::of_several();
    alone.refused(1_000, to(2, 1_000));
    assert_eq!(alone.link.state(), State::Starting);
    alone.until(6_000);
    alone.is_unreachable_since(6_000, Cause::ConnectionRefused);
}

#[test]
fn an_outage_has_the_errors_from_before_its_target_s_grace_ended() {
    let mut story = Story::of_several();
    story.up(1, 100).news();
    let back = story.refused_in_a_row(2, 1_000, 14);
    assert!(matches!(story.link.state(), State::Unreachable { .. }));
    story.up(2, back);
    let errors = story.link.counts().total_errors();
    assert_eq!(story.over().errors, errors);
}

#[test]
fn it_was_never_reachable_until_a_target_was() {
    let mut story = Story::of_several();
    assert_eq!(story.link.never_reachable(), Some(Cause::Other));
    story.refused_in_a_row(1, 100, 14);
    assert_eq!(story.link.never_reachable(), Some(Cause::ConnectionRefused));
    story.up(1, 30_000);
    assert_eq!(story.link.never_reachable(), None);
}

#[test]
fn the_last_attempts_of_an_outage_are_those_of_all_targets() {
    let mut story = Story::of_several();
    story.up(1, 100).up(2, 400).news();
    story.ends(1, 100, 1_000, End::PeerClosed, 900);
    story.refused(1_100, to(1, 1_100)).up(1, 1_200);
    assert_eq!(story.over().attempts.len(), 1);
}

#[test]
fn beyond_its_limit_the_target_that_was_quiet_for_longest_makes_room() {
    let mut story = Story::of_several();
    story.attempt(1, to(1, 1));
    let most = i64::try_from(TARGETS).unwrap();
    for n in 2..=most + 1 {
        let peer = u64::try_from(n).unwrap();
        story.refused(n * 10, to(peer, n * 10));
    }
    // Nobody will see the end of its dial.
    let refused = story.link.counts().total_errors() - 1;
    story.has(
        CheckKind::Connect,
        refused + 1,
        &[(Cause::ConnectionRefused, refused), (Cause::Other, 1)],
    );
    assert_eq!(story.targets(), TARGETS);
    assert!(!story.link.targets().any(|target| target == peer(1)));
}

#[test]
fn counts_are_sums() {
    let mut story = Story::of_several();
    story.up(1, 100).up(2, 200).refused(300, to(3, 300));
    story.lives(&[(1, 100), (2, 200)], 500, 10_500);
    story.has_connects(2);
    // Two checks of each by now.
    story
        .has(CheckKind::Liveness, 6, &[(Cause::ConnectionRefused, 2)])
        .has(CheckKind::Connect, 3, &[(Cause::ConnectionRefused, 1)]);
}

#[test]
fn what_was_missed_of_no_target_counts_all_the_same() {
    let mut story = Story::of_several();
    let ends = [
        (Phase::Connecting, End::Refused, 3),
        (Phase::Held, End::Reset, 1),
    ];
    story.resynchronised(100, &[], &ends);
    assert_eq!(story.link.state(), State::Idle);
    story
        .has(CheckKind::Connect, 4, &[(Cause::ConnectionRefused, 3)])
        .has(CheckKind::Disconnect, 1, &[(Cause::ConnectionReset, 1)])
        .has_connects(1);
}

#[test]
fn connections_older_than_the_agent_are_targets() {
    let mut story = Story::of_several();
    let open = [
        (to(1, 0), None, Phase::Established),
        (to(2, 0), None, Phase::Established),
    ];
    story.resynchronised(100, &open, &[]).until(100);
    for n in [1, 2] {
        story.sampled(101, to(n, 0), well(-1_000));
    }
    let since = None;
    assert_eq!(story.link.state(), State::Reachable { since });
    assert_eq!(story.link.live().len(), 2);
    story.resynchronised(200, &open[..1], &[(Phase::Held, End::Reset, 1)]);
    story.is_unreachable_since(200, Cause::ConnectionReset);
}

#[test]
fn a_hop_explains_the_target_of_its_own_address_alone() {
    let failed = |n: u64| Input::Proxy {
        attempted: Some(at(101)),
        connection: id(to(9, 1_990)),
        peer_address: peer(n),
        event: ProxyEvent::Ended {
            phase: Phase::Connecting,
            how: End::Refused,
        },
    };
    for (n, cause) in [
        (1, Cause::ConnectionRefused),
        (2, Cause::ConnectionReset),
        (7, Cause::ConnectionReset),
    ] {
        let mut story = Story::of_several();
        story.up(1, 100).up(2, 1_000).input(1_990, failed(n));
        story.ends(1, 100, 2_000, End::Reset, 1_900);
        story.is_unreachable_since(2_000, cause);
    }
}

#[test]
fn a_process_that_ends_takes_its_targets_with_it() {
    let mut story = Story::of_several();
    story.up(1, 100).up(2, 1_000).news();
    story.ends(1, 100, 2_000, End::LocalClosed, 1_900);
    story.process_ended(2_010);
    assert_eq!(story.news(), [event(at(2_010), EventKind::Ended)]);
    assert_eq!(story.link.state(), State::Ended);
    story.has(CheckKind::Disconnect, 0, &[]).has_connects(2);
    story.up(3, 3_000);
    assert_eq!(story.link.next_deadline(), None);
}

#[test]
fn a_record_that_comes_late_begins_no_target() {
    let mut story = Story::of_several();
    story.up(1, 100);
    story
        .ends(1, 100, 12_000, End::LocalClosed, 2_000)
        .until(20_000);
    assert_eq!(story.link.state(), State::Idle);
    story.ends(1, 100, 12_000, End::LocalClosed, 2_000);
    assert_eq!(story.link.state(), State::Idle);
    story.has_connects(1);
    // But an address may come back.
    story.up(1, 30_000);
    story.is_reachable_since(30_002).has_connects(2);
}

#[test]
fn a_record_that_comes_late_begins_no_target_among_several_that_are_over() {
    let mut story = Story::of_several();
    story.up(1, 100).up(2, 1_000);
    story.ends(1, 100, 12_000, End::LocalClosed, 2_000);
    story.ends(2, 1_000, 12_100, End::LocalClosed, 2_000);
    story.until(20_000).news();
    story.ends(1, 100, 12_000, End::LocalClosed, 2_000);
    assert_eq!(story.link.state(), State::Idle);
    assert_eq!(story.targets(), 0);
}

#[test]
fn what_is_shown_of_several_is_what_tells_most() {
    let mut story = Story::of_several();
    assert_eq!(story.link.peer_address(), None);
    story.up(2, 100).up(1, 1_000);
    assert_eq!(story.link.peer_address(), Some(peer(1)), "the newest");
    assert_eq!(story.link.rtt(), Some(ms(1)));
    assert_eq!(story.link.heard(), Some(at(102)), "not heard for longest");
    let slow = Sample {
        rtt: Some(ms(5)),
        ..well(1_200)
    };
    story.sampled(1_300, to(2, 100), slow);
    assert_eq!(story.link.rtt(), Some(ms(5)), "the longest");
    assert_eq!(story.link.heard(), Some(at(1_002)));
    story.ends(2, 100, 2_000, End::Reset, 1_900);
    assert_eq!(story.link.peer_address(), Some(peer(2)), "the failing one");
    assert_eq!(story.link.live().len(), 1);
}

#[test]
fn a_target_is_not_given_up_early_where_dials_may_have_gone_unseen() {
    let lost = || {
        let mut story = Story::of_several();
        story.up(1, 100);
        story.ends(1, 100, 2_000, End::Reset, 1_900);
        story
    };
    let mut story = lost();
    story.until(10_000);
    assert_eq!(story.link.state(), State::Idle, "no dial, so given up");
    // A dial's missed end: nobody knows how often the client has failed, and how long it pauses.
    let mut story = lost();
    story.resynchronised(2_010, &[], &[(Phase::Connecting, End::Refused, 1)]);
    story.until(20_000);
    assert_eq!(story.targets(), 1);
    story.is_unreachable_since(2_000, Cause::ConnectionReset);
    story.until(30_000);
    assert_eq!(story.link.state(), State::Idle);
}
