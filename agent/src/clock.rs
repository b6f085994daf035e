//! The time of links and of output. Timers and warnings use `Instant`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

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

/// The wall-clock time of a past moment.
pub fn wall(at: Timestamp) -> WallTime {
    let wall = SystemTime::now();
    WallTime(wall.checked_sub(now().saturating_since(at)).unwrap_or(wall))
}

/// A moment for output: in JSON, seconds since the Unix epoch, to the microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub SystemTime);

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        serializer.serialize_f64((since.as_secs_f64() * 1e6).round() / 1e6)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let since = Duration::try_from_secs_f64(seconds).map_err(D::Error::custom)?;
        Ok(Self(UNIX_EPOCH + since))
    }
}
