//! The agent's only clock: `CLOCK_MONOTONIC`, as `bpf_ktime_get_ns` reads it in the kernel.
//!
//! Nothing here reads it; the callers do, and pass the time in.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A moment, in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `nanoseconds` after the clock's zero.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the clock's zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The first moment after `now` on the grid of step `step` that contains this moment.
    pub(crate) fn next_on_grid(self, step: Duration, now: Self) -> Self {
        let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX).max(1);
        let passed = now.0.saturating_sub(self.0) / step;
        let ahead = step.saturating_mul(passed.saturating_add(1));
        Self(self.0.saturating_add(ahead))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Saturates at the end of the clock, 584 years after boot.
    fn add(self, duration: Duration) -> Self {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanoseconds))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    /// Saturates at the clock's zero.
    fn sub(self, duration: Duration) -> Self {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanoseconds))
    }
}
