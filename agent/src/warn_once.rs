//! One warning when something stops working, one line when it works again.
//!
//! A dependency of the agent (the Collector, the Kubernetes API, `/proc`) fails many times in one
//! outage. [`WarnOnce`] decides which of these failures deserve a log line; the caller writes it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// The failures since the last success.
#[derive(Debug, Default)]
pub(crate) struct WarnOnce {
    /// When the first of them was seen; `None` while all is well.
    since: Option<Instant>,
    failures: u64,
    /// The reasons that were warned about.
    warned: BTreeSet<String>,
}

/// An outage that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// From the first failure to the success.
    pub(crate) lasted: Duration,
    /// How many failures it had.
    pub(crate) failures: u64,
}

impl WarnOnce {
    /// Counts a failure; returns whether to warn: each `reason` deserves one warning an outage.
    pub(crate) fn failed(&mut self, now: Instant, reason: &str) -> bool {
        self.since.get_or_insert(now);
        self.failures += 1;
        self.warned.len() < MOST_REASONS && self.warned.insert(reason.to_owned())
    }

    /// Whether there was a failure since the last success.
    pub(crate) fn is_failing(&self) -> bool {
        self.since.is_some()
    }

    /// Counts a success; returns the outage that it ends, if there was one.
    pub(crate) fn succeeded(&mut self, now: Instant) -> Option<Recovery> {
        let Self {
            since, failures, ..
        } = std::mem::take(self);
        Some(Recovery {
            lasted: now.saturating_duration_since(since?),
            failures,
        })
    }
}

/// Reasons come from other programs, so their number is bounded. A person who has read this many
/// warnings of one outage learns nothing from another.
const MOST_REASONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_warned_of_once_until_it_works_again() {
        let mut warnings = WarnOnce::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(warnings.succeeded(start), None);
        assert!(warnings.failed(after(1), "refused"));
        for second in 2..60 {
            assert!(!warnings.failed(after(second), "refused"));
        }
        assert!(warnings.failed(after(60), "forbidden"));
        assert!(warnings.is_failing());
        let recovery = Recovery {
            lasted: Duration::from_secs(60),
            failures: 60,
        };
        assert_eq!(warnings.succeeded(after(61)), Some(recovery));
        assert_eq!(warnings.succeeded(after(62)), None);
        assert!(warnings.failed(after(63), "refused"));
    }

    #[test]
    fn reasons_without_end_take_no_memory_without_end() {
        let mut warnings = WarnOnce::default();
        let now = Instant::now();
        let warned = (0..10 * MOST_REASONS).filter(|n| warnings.failed(now, &n.to_string()));
        assert_eq!(warned.count(), MOST_REASONS);
    }
}
