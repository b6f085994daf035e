//! The distance between passes.

use std::time::Duration;

use super::super::owed::AT_ONCE;
use crate::time::Timestamp;

/// When the next pass may begin.
#[derive(Debug)]
pub(super) struct ResyncPace {
    /// The earliest time for the next pass.
    pub(super) next: Timestamp,
    gap: Duration,
}

impl Default for ResyncPace {
    fn default() -> Self {
        Self {
            next: AT_ONCE,
            gap: RESYNC_GAP,
        }
    }
}

impl ResyncPace {
    /// A pass has ended; `lost` says whether records were lost meanwhile.
    pub(super) fn ended(&mut self, now: Timestamp, lost: bool) {
        self.gap = if lost {
            (self.gap * 2).min(LONGEST_GAP)
        } else {
            RESYNC_GAP
        };
        self.next = now + self.gap;
    }
}

/// Between two passes, so that a burst of discoveries shares one. No link waits longer than a tenth
/// of the second after which it takes a missing connection for ended.
const RESYNC_GAP: Duration = Duration::from_millis(100);
/// Between two passes while each loses records itself. A link that finds a connection gone waits 1
/// s for its end and then counts it with an unknown cause; an end that is reconciled later does not
/// correct that. A source that changed while it was listed waits for a second pass, so two of these
/// gaps and two passes of a busy node (100 ms each) must stay below that second.
const LONGEST_GAP: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(milliseconds * 1_000_000)
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
}
