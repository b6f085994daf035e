//! When to export: at each interval, at once on a transition, and never too often.
//!
//! Pure: the time is an argument. The driver waits for [`Pace::next_deadline`] or a transition, calls
//! [`Pace::poll`], and if that says so, exports and calls [`Pace::done`].

use std::time::Duration;

use crate::time::Timestamp;

/// The shortest time between the starts of two exports: at most five a second.
///
/// Shorter gains nothing. A Collector holds what it receives for 200 ms before it sends it on
/// (`flush_timeout` of exporterhelper's `sending_queue::batch`), and a transition that has to wait
/// still arrives within the 250 ms that a transition may take to the Collector. Longer would miss
/// those. Each export carries every series of the node, so without a gap a flapping link would make the
/// agent export as fast as it can.
pub(crate) const SHORTEST_GAP: Duration = Duration::from_millis(200);

/// When the next export is due.
///
/// Time may stand still, and a step back only delays. Exports never overlap: while one runs nothing is
/// due, and a transition meanwhile makes another due right after it. Transitions do not move the beat
/// of the interval; beats that a long export missed are skipped.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    interval: Duration,
    next_beat: Timestamp,
    last_start: Option<Timestamp>,
    wanted: bool,
    running: bool,
}

impl Pace {
    /// The first beat comes one `interval` after `now`.
    pub(crate) fn new(now: Timestamp, interval: Duration) -> Self {
        let interval = interval.max(SHORTEST_GAP);
        Self {
            interval,
            next_beat: now + interval,
            last_start: None,
            wanted: false,
            running: false,
        }
    }

    /// Makes an export due at once: something changed that must not wait for the interval.
    pub(crate) const fn transition(&mut self) {
        self.wanted = true;
    }

    /// Whether to start an export now; `true` marks it as started. A call before the deadline does
    /// nothing.
    pub(crate) fn poll(&mut self, now: Timestamp) -> bool {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return false;
        }
        self.running = true;
        self.wanted = false;
        self.last_start = Some(now);
        if self.next_beat <= now {
            let next = self.next_beat + self.interval;
            self.next_beat = if next <= now {
                now + self.interval
            } else {
                next
            };
        }
        true
    }

    /// Marks the running export as ended, whether it arrived or not.
    pub(crate) const fn done(&mut self) {
        self.running = false;
    }

    /// When the next export is due; `None` while one runs.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        if self.running {
            return None;
        }
        let due = if self.wanted {
            Timestamp::default()
        } else {
            self.next_beat
        };
        Some(
            self.last_start
                .map_or(due, |start| due.max(start + SHORTEST_GAP)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn ms(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(milliseconds * 1_000_000)
    }

    fn pace() -> Pace {
        Pace::new(ms(0), INTERVAL)
    }

    #[test]
    fn exports_at_each_interval() {
        let mut pace = pace();
        for beat in 1..4 {
            assert_eq!(pace.next_deadline(), Some(ms(beat * 10_000)));
            assert!(!pace.poll(ms(beat * 10_000 - 1)));
            assert!(pace.poll(ms(beat * 10_000)));
            pace.done();
        }
    }

    #[test]
    fn exports_a_transition_at_once_and_keeps_the_beat() {
        let mut pace = pace();
        pace.transition();
        assert!(pace.poll(ms(3)));
        pace.done();
        assert_eq!(pace.next_deadline(), Some(ms(10_000)));
    }

    #[test]
    fn spaces_a_burst_of_transitions() {
        let mut pace = pace();
        let mut starts = Vec::new();
        for now in 0..1_000 {
            pace.transition();
            if pace.poll(ms(now)) {
                starts.push(now);
                pace.done();
            }
        }
        assert_eq!(starts, [0, 200, 400, 600, 800]);
    }

    #[test]
    fn exports_again_after_a_transition_during_an_export() {
        let mut pace = pace();
        pace.transition();
        assert!(pace.poll(ms(0)));
        pace.transition();
        assert_eq!(pace.next_deadline(), None);
        assert!(!pace.poll(ms(1_000)));
        pace.done();
        assert!(pace.poll(ms(1_000)));
        pace.done();
        assert_eq!(pace.next_deadline(), Some(ms(10_000)));
    }

    #[test]
    fn skips_the_beats_of_a_long_export() {
        let mut pace = pace();
        assert!(pace.poll(ms(10_000)));
        pace.done();
        assert!(pace.poll(ms(45_000)));
        pace.done();
        assert_eq!(pace.next_deadline(), Some(ms(55_000)));
    }

    #[test]
    fn a_beat_shortly_after_a_transition_waits_for_the_gap() {
        let mut pace = pace();
        pace.transition();
        assert!(pace.poll(ms(9_900)));
        pace.done();
        assert_eq!(pace.next_deadline(), Some(ms(10_100)));
    }
}
