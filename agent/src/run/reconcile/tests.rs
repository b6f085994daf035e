//! When a resynchronisation is made, how far it looks, and which distance it keeps.

use super::*;

fn ms(milliseconds: u64) -> Timestamp {
    Timestamp::from_nanos(milliseconds * 1_000_000)
}

#[test]
fn a_full_ring_costs_no_pass_over_open_files_and_a_full_quota_none_at_all() {
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
    for reason in LossReason::ALL {
        if reason != LossReason::RingFull {
            assert_eq!(after(&[reason]), None, "{reason:?} calls for no pass");
        }
    }
    assert_eq!(
        depth_after(&[], &LossReason::ALL.map(|reason| (reason, 0))),
        None
    );
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
