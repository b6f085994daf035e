//! The pause after a failed write.

use std::time::{Duration, Instant};

/// When the next write may be tried.
#[derive(Debug, Default)]
pub(super) struct Pause {
    /// The last failure, and how long to pause after it.
    failed: Option<(Instant, Duration)>,
}

impl Pause {
    /// Whether it is too early to try again.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.failed
            .is_some_and(|(at, pause)| now.saturating_duration_since(at) < pause)
    }

    /// A write failed. Where every second write fails (the old file fits, and the new one beside it
    /// does not), a success in between does not shorten the pause.
    pub(super) fn failed(&mut self, now: Instant) {
        let pause = match self.failed {
            Some((at, pause)) if now.saturating_duration_since(at) < pause + LONGEST => {
                (pause * 2).min(LONGEST)
            }
            _ => SHORTEST,
        };
        self.failed = Some((now, pause));
    }
}

/// A short failure, such as a lack of memory, is over by then.
const SHORTEST: Duration = Duration::from_secs(1);
/// A permanent failure is logged this often at most: two lines in five minutes are no flood.
const LONGEST: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_where_each_second_write_fails_is_tried_ever_more_seldom() {
        let mut pause = Pause::default();
        let start = Instant::now();
        let mut failures = Vec::new();
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            if !pause.is_on(now) {
                pause.failed(now);
                failures.push(second);
            }
        }
        assert_eq!(failures[..4], [0, 1, 3, 7]);
        assert!(failures.len() < 24, "{failures:?}");
        let later = start + Duration::from_secs(3 * 3600);
        pause.failed(later);
        assert!(!pause.is_on(later + SHORTEST));
    }
}
