//! What holds whatever is told, in whatever order.

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::select};
use statlink_ebpf::{End, Phase};

use super::story::{at, id, ms, peer};
use crate::time::Timestamp;
use crate::{
    Cause, CheckKind, Counts, Fact, HopEvent, Link, Missed, OpenConnection, Outcome, Sample, Status,
};

/// A fact and its time, milliseconds after the discovery.
type Told = (i64, Fact);

fn time(since: i64) -> impl Strategy<Value = Option<Timestamp>> {
    prop_oneof![
        Just(None),
        (-2_000..=0_i64).prop_map(move |before| Some(at(since + before)))
    ]
}

fn sample(now: i64) -> impl Strategy<Value = Option<Sample>> {
    let sample = (any::<bool>(), time(now), time(now), any::<bool>(), 0..4_u8);
    prop_oneof![
        1 => Just(None),
        4 => sample.prop_map(|(established, heard, sent, unacknowledged, timeouts)| {
            Some(Sample { established, heard, sent, unacknowledged, timeouts, rtt: None })
        }),
    ]
}

fn missed() -> impl Strategy<Value = Missed> {
    let end = (select(&Phase::ALL[..]), select(&End::ALL[..]), 0..3_u32);
    prop::collection::vec(end, 0..3).prop_map(|ends| {
        let mut missed = Missed::default();
        for (phase, how, n) in ends {
            missed.add(phase, how, n);
        }
        missed
    })
}

fn open(n: u64, attempted: Option<Timestamp>, phase: Phase) -> OpenConnection {
    OpenConnection {
        connection: id(n),
        peer: peer(n),
        attempted,
        phase,
    }
}

fn fact(now: i64) -> impl Strategy<Value = Fact> {
    (0..6_u64, time(now), select(&Phase::ALL[..])).prop_flat_map(move |(n, attempted, phase)| {
        let (connection, peer) = (id(n), peer(n));
        prop_oneof![
            3 => Just(Fact::Attempted { connection, peer }),
            3 => Just(Fact::Established { connection, peer, attempted }),
            2 => (0..4_u8).prop_map(move |timeouts| Fact::RetransmissionTimeout { connection, timeouts }),
            3 => (select(&End::ALL[..]), time(now)).prop_map(move |(how, heard)| Fact::Ended {
                connection, peer, attempted, phase, how, errno: 0, heard,
            }),
            2 => (select(&End::ALL[..]), 0..4_u8).prop_map(move |(how, event)| Fact::Hop {
                connection: id(n + 10), peer, event: match event {
                    0 => HopEvent::Attempted,
                    1 => HopEvent::Established,
                    2 => HopEvent::Stalled,
                    _ => HopEvent::Ended { phase, how },
                },
            }),
            1 => Just(Fact::Found { connection, peer, attempted, phase }),
            6 => sample(now).prop_map(move |sample| Fact::Sampled { connection, sample }),
            1 => Just(Fact::LookedUp),
            1 => prop::option::of(prop::collection::btree_set(0..6_u64, 0..4)).prop_map(|peers| {
                Fact::PeerAddresses(peers.map(|peers| peers.into_iter().map(|n| self::peer(n).ip()).collect()))
            }),
            1 => (prop::collection::vec(0..6_u64, 0..4), missed()).prop_map(move |(sockets, missed)| {
                let open = sockets.into_iter().map(|n| open(n, attempted, phase)).collect();
                Fact::Resynchronised { open, missed }
            }),
        ]
    })
}

/// Facts in about the order of their times: some step back, gaps stay below a liveness period.
fn history() -> impl Strategy<Value = Vec<Told>> {
    prop::collection::vec((-50..4_000_i64, any::<prop::sample::Index>()), 0..60).prop_flat_map(
        |steps| {
            let mut now = 0;
            steps
                .into_iter()
                .map(|(step, _)| {
                    now = (now
                        + if step > 1_500 {
                            step - 1_500
                        } else {
                            step / 10
                        })
                    .max(0);
                    (Just(now), fact(now))
                })
                .collect::<Vec<_>>()
        },
    )
}

/// What a link has come to.
fn result(link: &Link) -> (Counts, Status) {
    (link.counts().clone(), link.status())
}

/// Wakes the link for each of its deadlines up to `now`.
fn wake(link: &mut Link, now: Timestamp, outcomes: &mut Vec<Outcome>) {
    while let Some(due) = link.next_deadline()
        && due <= now
    {
        link.on_deadline(due, outcomes);
        assert!(link.next_deadline() > Some(due), "a deadline in the past");
    }
}

fn errors(counts: &Counts, kind: CheckKind) -> u64 {
    Cause::ALL
        .iter()
        .map(|&cause| counts.errors(kind, cause))
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn errors_never_exceed_checks_and_nothing_counted_is_taken_back(history in history()) {
        let mut link = Link::discovered(at(0));
        let mut outcomes = Vec::new();
        let mut before = link.counts().clone();
        for (now, fact) in history {
            link.handle(at(now), fact, &mut outcomes);
            let counts = link.counts();
            for kind in CheckKind::ALL {
                prop_assert!(errors(counts, kind) <= counts.checks(kind));
                prop_assert!(before.checks(kind) <= counts.checks(kind));
                prop_assert!(errors(&before, kind) <= errors(counts, kind));
            }
            prop_assert!(before.connects() <= counts.connects());
            before = counts.clone();
        }
    }

    #[test]
    fn each_outage_adds_an_error_at_its_onset_and_each_is_over_once(history in history()) {
        let mut link = Link::discovered(at(0));
        let (mut outage, mut begun) = (false, 0);
        for (now, fact) in history {
            let mut outcomes = Vec::new();
            link.handle(at(now), fact, &mut outcomes);
            for outcome in outcomes {
                match outcome {
                    Outcome::Unreachable { .. } => {
                        begun += u64::from(!outage);
                        outage = true;
                    }
                    Outcome::Reachable { outage: ended, .. } => {
                        prop_assert_eq!(ended.is_some(), outage);
                        prop_assert!(ended.is_none_or(|ended| ended.errors > 0));
                        outage = false;
                    }
                    Outcome::Sample(_)
                    | Outcome::Connected { .. }
                    | Outcome::ConnectFailed(_)
                    | Outcome::Disconnected { .. }
                    | Outcome::Idle { .. }
                    | Outcome::Ended { .. } => {}
                }
            }
            let counts = link.counts();
            prop_assert!(begun <= errors(counts, CheckKind::Disconnect) + errors(counts, CheckKind::Liveness));
            prop_assert_eq!(outage, matches!(link.status(), Status::Unreachable { .. }));
        }
    }

    #[test]
    fn a_disconnect_is_told_once_for_each_that_is_counted(history in history()) {
        let mut link = Link::discovered(at(0));
        let (mut outcomes, mut of_history) = (Vec::new(), 0);
        for (now, fact) in history {
            let resynchronised = matches!(fact, Fact::Resynchronised { .. });
            let (checks, told) = (link.counts().checks(CheckKind::Disconnect), outcomes.len());
            link.handle(at(now), fact, &mut outcomes);
            let told = outcomes.iter().skip(told).filter(|told| matches!(told, Outcome::Disconnected { .. })).count();
            let counted = link.counts().checks(CheckKind::Disconnect) - checks;
            // Losses on connections that were never known have no peer to tell of.
            of_history += if resynchronised { counted - told as u64 } else { 0 };
        }
        let told = outcomes.iter().filter(|told| matches!(told, Outcome::Disconnected { .. })).count();
        prop_assert_eq!(told as u64 + of_history, link.counts().checks(CheckKind::Disconnect));
    }

    #[test]
    fn when_the_driver_wakes_makes_no_difference(history in history(), extra in prop::collection::vec(0..4_000_u64, 60)) {
        let mut told = Link::discovered(at(0));
        let mut woken = told.clone();
        let mut pestered = told.clone();
        let mut outcomes = Vec::new();
        let mut latest = 0;
        for ((now, fact), extra) in history.into_iter().zip(extra) {
            wake(&mut woken, at(latest.max(now)), &mut outcomes);
            if let Some(due) = pestered.next_deadline() {
                let before = result(&pestered);
                pestered.on_deadline(due - ms(extra) - ms(1), &mut outcomes);
                prop_assert_eq!(before, result(&pestered), "early calls do nothing");
            }
            for link in [&mut told, &mut woken, &mut pestered] {
                link.handle(at(latest.max(now)), fact.clone(), &mut outcomes);
            }
            prop_assert_eq!(result(&told), result(&woken));
            prop_assert_eq!(result(&told), result(&pestered));
            latest = latest.max(now);
        }
    }

    #[test]
    fn no_deadline_is_in_the_past_and_memory_is_bounded(history in history()) {
        let mut link = Link::discovered(at(0));
        let mut outcomes = Vec::new();
        for (now, fact) in history {
            let told = outcomes.len();
            link.handle(at(now), fact, &mut outcomes);
            link.on_deadline(at(now), &mut outcomes);
            prop_assert!(link.next_deadline() > Some(at(now)));
            prop_assert!(link.connections().count() <= 6);
            prop_assert!(outcomes.len() - told <= 64, "one fact, {} outcomes", outcomes.len() - told);
        }
    }

    #[test]
    fn the_records_of_one_socket_count_once_in_any_order_and_however_often(
        order in prop::collection::vec(0..4_usize, 1..16),
        how in select(&End::ALL[..]),
        phase in select(&Phase::ALL[..]),
        heard in time(2_000),
    ) {
        let (connection, peer, attempted) = (id(1), peer(1), Some(at(0)));
        let records = [
            (0, Fact::Attempted { connection, peer }),
            (1, Fact::Established { connection, peer, attempted }),
            (1_900, Fact::RetransmissionTimeout { connection, timeouts: 2 }),
            (2_000, Fact::Ended { connection, peer, attempted, phase, how, errno: 0, heard }),
        ];
        let mut link = Link::discovered(at(0));
        let mut outcomes = Vec::new();
        for &record in &order {
            if let Some((now, fact)) = records.get(record).cloned() {
                link.handle(at(now), fact, &mut outcomes);
            }
        }
        link.on_deadline(at(4_000), &mut outcomes);
        let ended = u64::from(order.contains(&3));
        let counts = link.counts();
        prop_assert_eq!(counts.checks(CheckKind::Connect), ended);
        prop_assert_eq!(counts.checks(CheckKind::Disconnect), counts.connects());
        prop_assert_eq!(errors(counts, CheckKind::Connect) + counts.connects(), ended);
    }

    #[test]
    fn attempts_and_losses_add_up_when_any_records_are_lost(
        // Of a process that lives on.
        lives in prop::collection::vec(
            (1..4_u8, select(&End::ALL[..End::Exiting as usize]), any::<[bool; 3]>()),
            1..20,
        ),
    ) {
        let mut link = Link::discovered(at(0));
        let mut outcomes = Vec::new();
        let mut missed = Missed::default();
        let mut upgraded = 0;
        for (n, &(far, how, arrives)) in (1..).zip(&lives) {
            let begun = i64::try_from(n).unwrap_or(0) * 100;
            let (connection, peer, attempted) = (id(n), peer(n), Some(at(begun)));
            let phase = match far {
                1 => Phase::Connecting,
                2 => Phase::Established,
                _ => Phase::Held,
            };
            upgraded += u64::from(phase == Phase::Held);
            let heard = (phase == Phase::Held).then(|| at(begun + 2));
            let records = [
                Fact::Attempted { connection, peer },
                Fact::Established { connection, peer, attempted },
                Fact::Ended { connection, peer, attempted, phase, how, errno: 0, heard },
            ];
            for ((fact, arrives), after) in records.into_iter().zip(arrives).zip([0, 1, 900]) {
                let seen = phase != Phase::Connecting || after != 1;
                if arrives && seen {
                    link.handle(at(begun + after), fact, &mut outcomes);
                } else if after == 900 {
                    missed.add(phase, how, 1);
                }
            }
        }
        link.handle(at(2_900), Fact::Resynchronised { open: vec![], missed }, &mut outcomes);
        link.on_deadline(at(4_000), &mut outcomes);
        let counts = link.counts();
        prop_assert_eq!(counts.checks(CheckKind::Connect), lives.len() as u64);
        prop_assert_eq!(counts.connects(), upgraded);
        prop_assert_eq!(counts.checks(CheckKind::Disconnect), upgraded);
        prop_assert_eq!(link.connections().count(), 0);
    }
}

proptest! {
    // Each case is thousands of facts.
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_storm_takes_bounded_memory(ends in prop::collection::vec(any::<bool>(), 3_000)) {
        let mut link = Link::discovered(at(0));
        let mut outcomes = Vec::new();
        for (n, ends) in (1..).zip(&ends) {
            let (connection, peer) = (id(n), peer(n));
            link.handle(at(1), Fact::Attempted { connection, peer }, &mut outcomes);
            if *ends {
                link.handle(at(1), Fact::Ended {
                    connection, peer, attempted: Some(at(1)), phase: Phase::Connecting,
                    how: End::Refused, errno: 111, heard: None,
                }, &mut outcomes);
            }
        }
        let tracked: BTreeSet<_> = link.connections().collect();
        prop_assert!(tracked.len() <= 1_024);
        let decided = link.counts().checks(CheckKind::Connect);
        prop_assert_eq!(decided + tracked.len() as u64, ends.len() as u64);
    }
}
