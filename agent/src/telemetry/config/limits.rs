//! Accepted times and their defaults.

use std::{ops::RangeInclusive, time::Duration};

use crate::telemetry::pace::SHORTEST_GAP;

/// Time between exports while nothing changes. The SDK's default is 60 s; but a gauge that pages
/// somebody must not be a minute old, and a restart of the Collector must not look like a gap.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// The accepted intervals. A shorter one than the gap between exports has no effect. One longer
/// than an hour is a mistake in the unit: Prometheus forgets a series 5 minutes after its last
/// sample.
pub(crate) const INTERVALS: RangeInclusive<Duration> = SHORTEST_GAP..=Duration::from_secs(3600);
/// Time for one export with its retries. The SDK's default is 10 s; but the last export must fit
/// into the 5 s of a shutdown.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest timeout that leaves the rest of a shutdown some of its 5 s.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(4);
