use statlink_ebpf::{Connection, End};

use super::*;

fn ms(milliseconds: u64) -> Timestamp {
    Timestamp::from_nanos(milliseconds * 1_000_000)
}

fn resets(n: u32) -> Ends {
    let mut ends = Ends::default();
    ends[Phase::Held as usize][End::Reset as usize] = n;
    ends
}

fn inventory(missed: Ends) -> Inventory {
    Inventory {
        at: ms(5),
        open: Vec::new(),
        missed,
    }
}

fn missed(input: &Input) -> u32 {
    match input {
        Input::Resynchronised { missed, .. } => missed.count(Phase::Held, End::Reset),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missed_end_is_given_to_the_link_once() {
    let mut owed = Owed::at_discovery(ms(0));
    assert_eq!(missed(&owed.input(&inventory(resets(3)))), 3);
    assert_eq!(missed(&owed.input(&inventory(resets(3)))), 0);
    assert_eq!(missed(&owed.input(&inventory(resets(5)))), 2);
}

#[test]
fn open_connections_are_given_as_they_are() {
    let connection = Connection {
        born_ns: 20,
        attempted_ns: 0,
        established_ns: 0,
        tgid: 7,
        netns: 2,
        peer: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 10, 0, 0, 1],
        peer_port: 8080,
        soft_errno: 0,
        retransmits: 0,
        phase: Phase::Established as u8,
        _pad: [0; 7],
    };
    let mut inventory = inventory(Ends::default());
    inventory.open.push((0xA, connection));
    let open = match Owed::at_discovery(ms(0)).input(&inventory) {
        Input::Resynchronised { open, .. } => open,
        other => panic!("{other:?}"),
    };
    let expected = OpenConnection {
        connection: connection_id(0xA, 20),
        peer_address: ([10, 0, 0, 1], 8080).into(),
        attempted: None,
        phase: Phase::Established,
    };
    assert_eq!(open, [expected]);
}

#[test]
fn a_link_is_owed_a_pass_at_discovery_and_a_second_later() {
    let mut owed = Owed::at_discovery(ms(10));
    assert_eq!(owed.next(), Some(AT_ONCE));
    assert_eq!(owed.take(ms(10)), Some(Depth::OpenFiles));
    assert_eq!(owed.next(), Some(ms(1_010)));
    assert_eq!(owed.take(ms(1_009)), None);
    assert_eq!(owed.take(ms(1_010)), Some(Depth::OpenFiles));
    assert_eq!((owed.next(), owed.take(ms(9_999))), (None, None));
}

#[test]
fn what_is_lost_while_a_pass_is_made_is_owed_another() {
    let mut owed = Owed::at_discovery(ms(0));
    owed.take(ms(2_000));
    owed.mark(Depth::Connections);
    assert_eq!(owed.next(), Some(AT_ONCE));
    // The deepest of what it is owed.
    owed.mark(Depth::OpenFiles);
    owed.mark(Depth::Connections);
    assert_eq!(owed.take(ms(2_001)), Some(Depth::OpenFiles));
}

#[test]
fn a_full_ring_costs_no_pass_over_open_files() {
    let before = LossReason::ALL.map(|reason| (reason, 5));
    let after = |changed: &[LossReason]| {
        let mut now = before;
        for (reason, count) in &mut now {
            *count += u64::from(changed.contains(reason));
        }
        depth_after(&before, &now)
    };
    assert_eq!(after(&[]), None);
    assert_eq!(after(&[LossReason::RingFull]), Some(Depth::Connections));
    for reason in [
        LossReason::ConnectionsFull,
        LossReason::TotalsFull,
        LossReason::CallsFull,
    ] {
        assert_eq!(
            after(&[LossReason::RingFull, reason]),
            Some(Depth::OpenFiles)
        );
    }
    assert_eq!(
        depth_after(&[], &LossReason::ALL.map(|reason| (reason, 0))),
        None
    );
}

#[test]
fn passes_that_lose_records_themselves_keep_a_growing_distance() {
    let mut pace = Pace::default();
    assert_eq!(pace.next, AT_ONCE);
    pace.ended(ms(0), false);
    assert_eq!(pace.next, ms(100));
    for (lost, gap) in [
        (true, 200),
        (true, 400),
        (true, 400),
        (false, 100),
        (true, 200),
    ] {
        pace.ended(ms(1_000), lost);
        assert_eq!(pace.next, ms(1_000 + gap));
    }
}
