//! What is worth a record, and which record is worth waking the reader.

use crate::{
    limits::{LOOKUP_PACE_NS, STALL_TIMEOUTS},
    wire::{Phase, RecordKind},
};

/// Whether the reader is woken for a record: a wake-up costs ten times the record itself.
///
/// It is where a link may have changed. An attempt changes none before its outcome, and of a name
/// lookup it is what does *not* follow, seconds later, that tells something: both wait for the next
/// record that wakes. So do records of untracked sources, which at most explain what a tracked one
/// reports.
#[inline(always)]
pub const fn wakes_reader(kind: RecordKind, tracked: bool) -> bool {
    match kind {
        RecordKind::Attempted | RecordKind::LookedUp => false,
        RecordKind::Established | RecordKind::RetransmissionTimeout | RecordKind::Ended => tracked,
        // A new client, which nobody can track yet.
        RecordKind::Executed => true,
    }
}

/// Whether a name lookup at `now_ns` is worth a record, the last one having been recorded at
/// `last_ns` (0: never).
#[inline(always)]
pub const fn is_lookup_due(last_ns: u64, now_ns: u64) -> bool {
    now_ns.wrapping_sub(last_ns) >= LOOKUP_PACE_NS
}

/// Whether a retransmission is the one that makes a stall, which is recorded once: later ones belong
/// to the same stall, and samples tell when it heals. An unanswered SYN is no stall but an attempt
/// under way.
#[inline(always)]
pub const fn is_stall(phase: Option<Phase>, timeouts: u8) -> bool {
    !matches!(phase, Some(Phase::Connecting)) && timeouts == STALL_TIMEOUTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_is_woken_where_a_link_may_have_changed() {
        for (kind, tracked, untracked) in [
            (RecordKind::Attempted, false, false),
            (RecordKind::Established, true, false),
            (RecordKind::RetransmissionTimeout, true, false),
            (RecordKind::Ended, true, false),
            (RecordKind::Executed, true, true),
            (RecordKind::LookedUp, false, false),
        ] {
            assert_eq!(wakes_reader(kind, true), tracked, "{kind:?}");
            assert_eq!(wakes_reader(kind, false), untracked, "{kind:?}");
        }
    }

    #[test]
    fn a_burst_of_lookups_makes_one_record() {
        let mut last = 0;
        let mut recorded = 0;
        // Two bursts of six lookups, 5 ms apart, the second 3.1 s after the first.
        for burst in [0_u64, 3_100_000_000] {
            for lookup in 0..6 {
                let now = 1_000_000_000_000 + burst + lookup * 5_000_000;
                if is_lookup_due(last, now) {
                    last = now;
                    recorded += 1;
                }
            }
        }
        assert_eq!(recorded, 2);
        assert!(!is_lookup_due(1_000, 1_000 + LOOKUP_PACE_NS - 1));
        assert!(is_lookup_due(1_000, 1_000 + LOOKUP_PACE_NS));
    }

    #[test]
    fn a_stall_is_recorded_once_and_never_of_a_syn() {
        let established = Some(Phase::Established);
        let recorded = (0..=8).filter(|timeouts| is_stall(established, *timeouts));
        assert_eq!(recorded.count(), 1);
        assert!(is_stall(established, STALL_TIMEOUTS));
        assert!(is_stall(None, STALL_TIMEOUTS), "data left behind a FIN");
        assert!(!is_stall(Some(Phase::Connecting), STALL_TIMEOUTS));
    }
}
