//! Which events get a record, and when to wake the reader beyond the kernel's own wake-ups.

use crate::{
    limits::{LOOKUP_PACE_NS, STALL_TIMEOUTS},
    wire::Phase,
};

/// Whether a record makes a ring of `size` bytes half full, of which `waiting` bytes were taken
/// before. True once each time, to wake the reader.
///
/// A client's record wakes a reader that has read all records before it (the kernel's own adaptive
/// notification), because a link may have changed. A neighbour's record only explains what a
/// client's record reports, and is read with it. So it wakes nobody until records may be lost.
#[inline(always)]
pub const fn is_half_full(waiting: u64, record: u64, size: u64) -> bool {
    let half = size / 2;
    waiting < half && waiting + record >= half
}

/// Whether a ring of `size` bytes, of which `waiting` bytes are taken, has room for records that
/// anybody on the node can cause in any number. Half of it is left to the records of links.
#[inline(always)]
pub const fn has_room_to_spare(waiting: u64, size: u64) -> bool {
    waiting < size / 2
}

/// Whether a name lookup at `now_ns` gets a record, if the last record was at `last_ns` (0: never).
#[inline(always)]
pub const fn is_lookup_due(last_ns: u64, now_ns: u64) -> bool {
    now_ns.wrapping_sub(last_ns) >= LOOKUP_PACE_NS
}

/// Whether a retransmission makes a stall, which is recorded once: later ones belong to the same
/// stall, and samples show when it heals. An unanswered SYN is not a stall but an attempt under
/// way.
#[inline(always)]
pub const fn is_stall(phase: Option<Phase>, timeouts: u8) -> bool {
    !matches!(phase, Some(Phase::Connecting)) && timeouts == STALL_TIMEOUTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_fills_up_wakes_the_reader_once_on_its_way() {
        let (record, size) = (80, 1000);
        let woken = (0..12).filter(|count| is_half_full(count * record, record, size));
        assert_eq!(woken.count(), 1);
        assert!(!is_half_full(0, record, size));
    }

    #[test]
    fn half_of_a_ring_is_left_to_links() {
        let spare = [0, 499, 500, 1000].map(|waiting| has_room_to_spare(waiting, 1000));
        assert_eq!(spare, [true, true, false, false]);
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
