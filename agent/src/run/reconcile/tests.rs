//! When a resynchronisation is made, how far it looks, and which distance it keeps.

use super::*;

fn ms(milliseconds: u64) -> Timestamp {
    Timestamp::from_nanos(milliseconds * 1_000_000)
}

#[test]
fn lost_records_call_for_a_pass_and_refused_connections_for_none() {
    let before = LossReason::ALL.map(|reason| (reason, 5));
    let after = |changed: &[LossReason]| {
        let mut now = before;
        for (reason, count) in &mut now {
            *count += u64::from(changed.contains(reason));
        }
        Lost::between(&before, &now)
    };
    let nothing = Lost::default();
    assert_eq!(after(&[]), nothing);
    for reason in LossReason::ALL {
        let expected = match reason {
            LossReason::RingFull => Lost {
                records: true,
                ..nothing
            },
            LossReason::ConnectionsFull => Lost {
                connections: true,
                ..nothing
            },
            LossReason::ExecutionLost => Lost {
                executions: true,
                ..nothing
            },
            LossReason::TotalsFull
            | LossReason::CallsFull
            | LossReason::NeighbourRingFull
            | LossReason::NeighbourConnectionsFull
            | LossReason::NeighbourCallsFull => nothing,
        };
        assert_eq!(after(&[reason]), expected, "{reason:?}");
    }
    let zero = LossReason::ALL.map(|reason| (reason, 0));
    assert_eq!(Lost::between(&[], &zero), nothing);
}

#[test]
fn passes_that_lose_records_themselves_keep_a_growing_distance() {
    let mut pace = ResyncPace::default();
    assert_eq!(pace.next, AT_ONCE);
    pace.ended(ms(0), false);
    assert_eq!(pace.next, ms(100));
    for (lost, gap) in [(true, 200), (true, 200), (false, 100), (true, 200)] {
        pace.ended(ms(1_000), lost);
        assert_eq!(pace.next, ms(1_000 + gap));
    }
}
