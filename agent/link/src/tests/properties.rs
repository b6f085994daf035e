//! Properties of a link that hold for any inputs in any order.

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::select};
use statlink_ebpf::{End, Phase};

use super::story::{at, id, ms, peer};
use crate::time::Timestamp;
use crate::{
    Cause, CheckKind, Counts, Event, EventKind, Input, Link, MissedEnds, OpenConnection, Output,
    ProxyEvent, Sample, State, UnknownReason,
};

/// An input and its time, milliseconds after the discovery.
type Told = (i64, Input);

fn time(since: i64) -> impl Strategy<Value = Option<Timestamp>> {
    prop_oneof![
        Just(None),
        (-2_000..=0_i64).prop_map(move |before| Some(at(since + before)))
    ]
}

fn sample(now: i64) -> impl Strategy<Value = Option<Sample>> {
    let looped = any::<bool>();
    let sample = (
        any::<bool>(),
        time(now),
        time(now),
        any::<bool>(),
        0..4_u8,
        looped,
    );
    prop_oneof![
        1 => Just(None),
        4 => sample.prop_map(|(established, heard, sent, unacknowledged, timeouts, looped)| {
            Some(Sample { established, heard, sent, unacknowledged, timeouts, rtt: None, looped })
        }),
    ]
}

fn missed() -> impl Strategy<Value = MissedEnds> {
    let end = (select(&Phase::ALL[..]), select(&End::ALL[..]), 0..3_u32);
    prop::collection::vec(end, 0..3).prop_map(|ends| {
        let mut missed = MissedEnds::default();
        for (phase, how, n) in ends {
            missed.add(phase, how, n);
        }
        missed
    })
}

fn open(n: u64, attempted: Option<Timestamp>, phase: Phase) -> OpenConnection {
    OpenConnection {
        connection: id(n),
        peer_address: peer(n),
        attempted,
        phase,
    }
}

fn input(now: i64) -> impl Strategy<Value = Input> {
    (0..6_u64, time(now), select(&Phase::ALL[..])).prop_flat_map(move |(n, attempted, phase)| {
        let (connection, peer) = (id(n), peer(n));
        prop_oneof![
            3 => Just(Input::Attempted { connection, peer_address: peer }),
            3 => Just(Input::Established { connection, peer_address: peer, attempted }),
            2 => (0..4_u8).prop_map(move |timeouts| Input::RetransmissionTimeout { connection, timeouts }),
            3 => (select(&End::ALL[..]), time(now)).prop_map(move |(how, heard)| Input::Ended {
                connection, peer_address: peer, attempted, phase, how, errno: 0, heard,
            }),
            2 => (select(&End::ALL[..]), 0..4_u8).prop_map(move |(how, event)| Input::Proxy {
                connection: id(n + 10), peer_address: peer, attempted, event: match event {
                    0 => ProxyEvent::Attempted,
                    1 => ProxyEvent::Established,
                    2 => ProxyEvent::Stalled,
                    _ => ProxyEvent::Ended { phase, how },
                },
            }),
            6 => sample(now).prop_map(move |sample| Input::Sampled { connection, sample }),
            1 => Just(Input::LookedUp),
            1 => select(&UnknownReason::ALL[..]).prop_map(Input::EvidenceLost),
            2 => select(&UnknownReason::ALL[..]).prop_map(Input::EvidenceBack),
            1 => prop::option::of(prop::collection::btree_set(0..6_u64, 0..4)).prop_map(|peers| {
                Input::PeerAddresses(peers.map(|peers| peers.into_iter().map(|n| self::peer(n).ip()).collect()))
            }),
            1 => (prop::collection::vec(0..6_u64, 0..4), missed()).prop_map(move |(sockets, missed)| {
                let open = sockets.into_iter().map(|n| open(n, attempted, phase)).collect();
                Input::Resynchronised { open, missed }
            }),
        ]
    })
}

/// Inputs in about the order of their times: some step back, gaps stay below a liveness period.
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
                    (Just(now), input(now))
                })
                .collect::<Vec<_>>()
        },
    )
}

/// The result: counts and state.
fn result(link: &Link) -> (Counts, State) {
    (link.counts().clone(), link.state())
}

/// Wakes the link for each of its deadlines up to `now`.
fn wake(link: &mut Link, now: Timestamp, outputs: &mut Vec<Output>) {
    while let Some(due) = link.next_deadline()
        && due <= now
    {
        link.on_deadline(due, outputs);
        assert!(link.next_deadline() > Some(due), "a deadline in the past");
    }
}

fn events(outputs: &[Output]) -> impl Iterator<Item = &Event> {
    outputs.iter().filter_map(|output| match output {
        Output::Event(event) => Some(event),
        Output::Sample(_) | Output::OutageGoesOn => None,
    })
}

fn disconnects(outputs: &[Output]) -> usize {
    events(outputs)
        .filter(|event| matches!(event.kind, EventKind::Disconnected { .. }))
        .count()
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
        let mut outputs = Vec::new();
        let mut before = link.counts().clone();
        for (now, input) in history {
            link.handle(at(now), input, &mut outputs);
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
        let (mut outage, mut unknown, mut begun) = (false, false, 0);
        for (now, input) in history {
            let mut outputs = Vec::new();
            link.handle(at(now), input, &mut outputs);
            for event in events(&outputs) {
                match &event.kind {
                    EventKind::Unreachable { .. } => {
                        begun += u64::from(!outage);
                        (outage, unknown) = (true, false);
                    }
                    EventKind::Reachable { outage: ended, .. } => {
                        prop_assert_eq!(ended.is_some(), outage);
                        prop_assert!(ended.as_ref().is_none_or(|ended| ended.errors > 0));
                        (outage, unknown) = (false, false);
                    }
                    EventKind::Unknown { .. } => unknown = true,
                    EventKind::Discovered
                    | EventKind::Connected { .. }
                    | EventKind::ConnectFailed(_)
                    | EventKind::Disconnected { .. }
                    | EventKind::Idle
                    | EventKind::Ended => {}
                }
            }
            let counts = link.counts();
            prop_assert!(begun <= errors(counts, CheckKind::Disconnect) + errors(counts, CheckKind::Liveness));
            let told = outage && !unknown;
            prop_assert_eq!(told, matches!(link.state(), State::Unreachable { .. }));
            let is_unknown = link.state().unknown_reason().is_some();
            prop_assert!(unknown || !is_unknown);
        }
    }

    #[test]
    fn a_disconnect_is_told_once_for_each_that_is_counted(history in history()) {
        let mut link = Link::discovered(at(0));
        let (mut outputs, mut missed_losses) = (Vec::new(), 0);
        for (now, input) in history {
            if let Input::Resynchronised { missed, .. } = &input {
                missed_losses += End::ALL.map(|how| u64::from(missed.count(Phase::Held, how))).iter().sum::<u64>();
            }
            link.handle(at(now), input, &mut outputs);
            let (told, counted) = (disconnects(&outputs) as u64, link.counts().checks(CheckKind::Disconnect));
            // Losses of connections that were never known have no peer to report.
            prop_assert!((told..=told + missed_losses).contains(&counted));
        }
    }

    #[test]
    fn when_the_driver_wakes_makes_no_difference(history in history(), extra in prop::collection::vec(0..4_000_u64, 60)) {
        let mut told = Link::discovered(at(0));
        let mut woken = told.clone();
        let mut pestered = told.clone();
        let mut outputs = [Vec::new(), Vec::new(), Vec::new()];
        let mut latest = 0;
        for ((now, input), extra) in history.into_iter().zip(extra) {
            wake(&mut woken, at(latest.max(now)), &mut outputs[1]);
            if let Some(due) = pestered.next_deadline() {
                let before = result(&pestered);
                pestered.on_deadline(due - ms(extra) - ms(1), &mut outputs[2]);
                prop_assert_eq!(before, result(&pestered), "early calls do nothing");
            }
            for (link, outputs) in [&mut told, &mut woken, &mut pestered].into_iter().zip(&mut outputs) {
                link.handle(at(latest.max(now)), input.clone(), outputs);
            }
            prop_assert_eq!(result(&told), result(&woken));
            prop_assert_eq!(result(&told), result(&pestered));
            latest = latest.max(now);
        }
        let [told, woken, pestered] = outputs.map(|outputs| events(&outputs).cloned().collect::<Vec<_>>());
        prop_assert_eq!(&told, &woken);
        prop_assert_eq!(&told, &pestered);
    }

    #[test]
    fn no_deadline_is_in_the_past_and_memory_is_bounded(history in history()) {
        let mut link = Link::discovered(at(0));
        let mut outputs = Vec::new();
        for (now, input) in history {
            let told = outputs.len();
            link.handle(at(now), input, &mut outputs);
            link.on_deadline(at(now), &mut outputs);
            prop_assert!(link.next_deadline() > Some(at(now)));
            prop_assert!(outputs.len() - told <= 64, "one input, {} outputs", outputs.len() - told);
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
            (0, Input::Attempted { connection, peer_address: peer }),
            (1, Input::Established { connection, peer_address: peer, attempted }),
            (1_900, Input::RetransmissionTimeout { connection, timeouts: 2 }),
            (2_000, Input::Ended { connection, peer_address: peer, attempted, phase, how, errno: 0, heard }),
        ];
        let mut link = Link::discovered(at(0));
        let mut outputs = Vec::new();
        for &record in &order {
            if let Some((now, input)) = records.get(record).cloned() {
                link.handle(at(now), input, &mut outputs);
            }
        }
        link.on_deadline(at(4_000), &mut outputs);
        let ended = u64::from(order.contains(&3));
        let counts = link.counts();
        prop_assert_eq!(counts.checks(CheckKind::Connect), ended);
        prop_assert_eq!(counts.checks(CheckKind::Disconnect), counts.connects());
        prop_assert_eq!(errors(counts, CheckKind::Connect) + counts.connects(), ended);
    }

    #[test]
    fn attempts_and_losses_add_up_when_any_records_are_lost(
        // The connections of a process that lives on.
        lives in prop::collection::vec(
            (1..4_u8, select(&End::ALL[..End::Exiting as usize]), any::<[bool; 3]>()),
            1..20,
        ),
    ) {
        let mut link = Link::discovered(at(0));
        let mut outputs = Vec::new();
        let mut missed = MissedEnds::default();
        let mut upgraded = 0;
        for (n, &(far, how, arrives)) in (1..).zip(&lives) {
            let begun = i64::try_from(n).unwrap_or(0) * 100;
            // All to one address, so none is the loser of a race.
            let (connection, peer, attempted) = (id(n), peer(1), Some(at(begun)));
            let phase = match far {
                1 => Phase::Connecting,
                2 => Phase::Established,
                _ => Phase::Held,
            };
            upgraded += u64::from(phase == Phase::Held);
            let heard = (phase == Phase::Held).then(|| at(begun + 2));
            let records = [
                Input::Attempted { connection, peer_address: peer },
                Input::Established { connection, peer_address: peer, attempted },
                Input::Ended { connection, peer_address: peer, attempted, phase, how, errno: 0, heard },
            ];
            for ((input, arrives), after) in records.into_iter().zip(arrives).zip([0, 1, 900]) {
                let seen = phase != Phase::Connecting || after != 1;
                if arrives && seen {
                    link.handle(at(begun + after), input, &mut outputs);
                } else if after == 900 {
                    missed.add(phase, how, 1);
                }
            }
        }
        link.handle(at(2_900), Input::Resynchronised { open: vec![], missed }, &mut outputs);
        link.on_deadline(at(4_000), &mut outputs);
        let counts = link.counts();
        prop_assert_eq!(counts.checks(CheckKind::Connect), lives.len() as u64);
        prop_assert_eq!(counts.connects(), upgraded);
        prop_assert_eq!(counts.checks(CheckKind::Disconnect), upgraded);
        prop_assert_eq!(link.connections().count(), 0);
    }
}

proptest! {
    // Each case has thousands of inputs.
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_storm_takes_bounded_memory(ends in prop::collection::vec(any::<bool>(), 3_000)) {
        let mut link = Link::discovered(at(0));
        let mut outputs = Vec::new();
        for (n, ends) in (1..).zip(&ends) {
            let (connection, peer) = (id(n), peer(1));
            link.handle(at(1), Input::Attempted { connection, peer_address: peer }, &mut outputs);
            if *ends {
                link.handle(at(1), Input::Ended {
                    connection, peer_address: peer, attempted: Some(at(1)), phase: Phase::Connecting,
                    how: End::Refused, errno: 111, heard: None,
                }, &mut outputs);
            }
        }
        let tracked: BTreeSet<_> = link.connections().collect();
        // Failures settle.
        link.on_deadline(at(40), &mut outputs);
        prop_assert!(tracked.len() <= 1_024);
        let decided = link.counts().checks(CheckKind::Connect);
        prop_assert_eq!(decided + tracked.len() as u64, ends.len() as u64);
    }
}
