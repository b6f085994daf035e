//! Reading the clocks. Nothing else in the agent does.

use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};

use crate::time::Timestamp;

/// The current moment.
pub fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Monotonic);
    // CLOCK_MONOTONIC is never negative.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    Timestamp::from_nanos(
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(nanoseconds),
    )
}

/// The wall-clock time of a moment that is past.
pub fn wall(at: Timestamp) -> SystemTime {
    let wall = SystemTime::now();
    wall.checked_sub(now().saturating_since(at)).unwrap_or(wall)
}
