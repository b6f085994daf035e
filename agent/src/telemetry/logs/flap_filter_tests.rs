//! Tests: events and time in, log entries out.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

fn peer() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 8080))
}

fn down(cause: Cause) -> EventKind {
    EventKind::Unreachable {
        cause,
        peer_address: Some(peer()),
        proxy_address: None,
        attempts: Vec::new(),
    }
}

fn up(cause: Cause, duration: f64) -> EventKind {
    EventKind::Reachable {
        outage: Some(EndedOutage {
            duration: Duration::from_secs_f64(duration),
            cause,
            errors: 2,
            attempts: Vec::new(),
        }),
        peer_address: peer(),
    }
}

/// Outages of 100 ms, from `begin` on, one every `every` milliseconds; returns what is logged.
fn flap(filter: &mut FlapFilter, begin: u64, every: u64, outages: u64) -> Vec<LogEntry> {
    let mut entries = Vec::new();
    for n in 0..outages {
        let onset = at(begin + n * every);
        entries.extend(filter.on_deadline(onset));
        entries.extend(filter.apply(onset, &down(Cause::ConnectionReset)));
        let back = onset + Duration::from_millis(100);
        entries.extend(filter.apply(back, &up(Cause::ConnectionReset, 0.1)));
    }
    entries
}

#[test]
fn an_outage_has_an_entry_at_each_end() {
    let mut filter = FlapFilter::default();
    let entries = flap(&mut filter, 0, 30_000, 4);
    assert_eq!(entries.len(), 8);
    assert!(
        entries
            .iter()
            .all(|entry| matches!(entry, LogEntry::Event(_)))
    );
    assert_eq!(filter.next_deadline(), None);
}

#[test]
fn a_cause_that_becomes_known_adds_no_entry() {
    let mut filter = FlapFilter::default();
    assert_eq!(filter.apply(at(0), &down(Cause::Other)), []);
    let known = down(Cause::Dns);
    assert_eq!(filter.apply(at(4_000), &known), [LogEntry::Event(known)]);
    assert_eq!(filter.apply(at(5_000), &down(Cause::Stalled)), []);
}

#[test]
fn a_loss_is_logged_at_once_whatever_its_cause() {
    let mut filter = FlapFilter::default();
    let first = EventKind::Reachable {
        outage: None,
        peer_address: peer(),
    };
    filter.apply(at(0), &first);
    let unknown = down(Cause::Other);
    assert_eq!(filter.apply(at(1), &unknown), [LogEntry::Event(unknown)]);
    assert_eq!(filter.apply(at(2), &down(Cause::Dns)), []);
}

#[test]
fn an_outage_is_logged_without_a_cause_if_none_becomes_known() {
    let mut filter = FlapFilter::default();
    let unknown = down(Cause::Other);
    assert_eq!(filter.apply(at(0), &unknown), []);
    assert_eq!(filter.on_deadline(at(24_999)), None);
    assert_eq!(filter.next_deadline(), Some(at(25_000)));
    assert_eq!(
        filter.on_deadline(at(25_000)),
        Some(LogEntry::Event(unknown.clone()))
    );
    assert_eq!(filter.next_deadline(), None);

    for end in [up(Cause::Other, 1.0), EventKind::Ended] {
        let mut filter = FlapFilter::default();
        assert_eq!(filter.apply(at(0), &unknown), []);
        let entries = filter.apply(at(1_000), &end);
        assert_eq!(
            entries,
            [LogEntry::Event(unknown.clone()), LogEntry::Event(end)]
        );
    }
}

#[test]
fn idle_ends_an_outage_like_a_recovery() {
    let mut filter = FlapFilter::default();
    let unknown = down(Cause::Other);
    filter.apply(at(0), &unknown);
    let entries = filter.apply(at(1_000), &EventKind::Idle);
    assert_eq!(
        entries,
        [LogEntry::Event(unknown), LogEntry::Event(EventKind::Idle)]
    );
    assert_eq!(filter.next_deadline(), None);
    // While the link flaps, the summary replaces it.
    flap(&mut filter, 2_000, 300, 10);
    filter.apply(at(6_000), &down(Cause::Stalled));
    assert_eq!(filter.apply(at(6_100), &EventKind::Idle), []);
}

#[test]
fn flapping_is_one_entry_a_minute() {
    let mut filter = FlapFilter::default();
    let entries = flap(&mut filter, 0, 300, 1_000);
    let [first @ .., flapping, one, two, three, four] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    assert_eq!(first.len(), 7);
    assert_eq!(*flapping, LogEntry::Flapping);
    for summary in [one, two, three, four] {
        let LogEntry::Summary(summary) = summary else {
            panic!("{summary:?}");
        };
        assert_eq!(
            summary.outages,
            BTreeMap::from([(Cause::ConnectionReset, 200)])
        );
        assert_eq!((summary.errors, summary.under_way), (400, false));
        assert_eq!(summary.unreachable, Duration::from_secs(20));
        assert_eq!(summary.length, MINUTE);
    }
    // The last minute that had begun, then a quiet one.
    assert!(matches!(
        filter.on_deadline(at(301_000)),
        Some(LogEntry::Summary(_))
    ));
    assert_eq!(filter.on_deadline(at(361_000)), Some(LogEntry::Settled));
    assert_eq!(filter.next_deadline(), None);
    assert_eq!(flap(&mut filter, 400_000, 300, 1).len(), 2);
}

#[test]
fn an_outage_that_lasts_is_logged_even_if_the_link_flapped_before() {
    let mut filter = FlapFilter::default();
    flap(&mut filter, 0, 300, 4);
    let lasting = down(Cause::Stalled);
    assert_eq!(filter.apply(at(2_000), &lasting), []);
    let Some(LogEntry::Summary(summary)) = filter.on_deadline(at(61_000)) else {
        panic!("no summary");
    };
    assert!(summary.under_way);
    assert_eq!(
        filter.on_deadline(at(121_000)),
        Some(LogEntry::Event(lasting)),
    );
    let back = up(Cause::Stalled, 200.0);
    assert_eq!(filter.apply(at(202_000), &back), [LogEntry::Event(back)]);
}

#[test]
fn flush_gives_what_was_held_back() {
    let mut filter = FlapFilter::default();
    flap(&mut filter, 0, 300, 10);
    let entries = filter.flush(at(5_000));
    let [LogEntry::Summary(summary)] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    assert_eq!(
        summary.outages,
        BTreeMap::from([(Cause::ConnectionReset, 7)])
    );
}

proptest! {
    #[test]
    fn an_outage_has_at_most_two_entries_and_summaries_come_once_a_minute(
        // Milliseconds until the next onset, its duration, and whether its cause is known.
        outages in prop::collection::vec((1..90_000_u64, 1..90_000_u64, any::<bool>()), 1..200),
    ) {
        let mut filter = FlapFilter::default();
        let (mut now, mut entries) = (at(0), Vec::new());
        let mut until = |filter: &mut FlapFilter, entries: &mut Vec<LogEntry>, ms| {
            let end = now + Duration::from_millis(ms);
            while let Some(due) = filter.next_deadline().filter(|due| *due <= end) {
                entries.extend(filter.on_deadline(due));
            }
            now = end;
            end
        };
        let number = outages.len();
        for (rest, length, known) in outages {
            let onset = until(&mut filter, &mut entries, rest);
            let cause = if known { Cause::Stalled } else { Cause::Other };
            entries.extend(filter.apply(onset, &down(cause)));
            let back = until(&mut filter, &mut entries, length);
            entries.extend(filter.apply(back, &up(cause, 1.0)));
        }
        let end = until(&mut filter, &mut entries, 120_000);
        let minutes = end.saturating_since(at(0)).as_secs().div_ceil(60);
        let summaries = entries.iter().filter(|entry| !matches!(entry, LogEntry::Event(_)));
        prop_assert!(entries.len() <= 2 * number + summaries.count());
        prop_assert!(entries.len() as u64 <= 2 * minutes * (LOGGED_EACH as u64 + 1));
        prop_assert_eq!(filter.next_deadline(), None);
    }
}
