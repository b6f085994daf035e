//! When to export: at each interval, at once on a transition, and never too often; without a link
//! once a minute. Agents that start together do not export together.
//!
//! Pure: the time and the random number are arguments. The caller waits for
//! [`Pace::next_deadline`] or a transition, and calls [`Pace::poll`]. If that returns `true`, it
//! exports and calls [`Pace::done`]; or, if there is no link and [`Pace::is_rest`] allows it, it
//! calls [`Pace::skipped`].

use std::time::Duration;

use crate::time::Timestamp;

/// The shortest time between the starts of two exports: at most five a second.
///
/// Shorter gains nothing. A Collector holds what it receives for 200 ms before it sends it on
/// (`flush_timeout` of exporterhelper's `sending_queue::batch`), and a transition that has to wait
/// still arrives within its budget of 250 ms to the Collector. A longer gap would exceed that. Each
/// export carries every series of the node, so without a gap a flapping link would make the agent
/// export as fast as it can.
pub(crate) const SHORTEST_GAP: Duration = Duration::from_millis(200);

/// Between two exports of an agent without a link, unless the interval is longer still. They say
/// only that the agent lives, and a minute is soon enough to find the nodes of a fleet where it
/// does not. Prometheus keeps a series without a sample for 5 minutes, so four of five exports may
/// be lost.
const REST: Duration = Duration::from_secs(60);

/// When the next export is due.
///
/// Time may stand still, and a step back only delays. Exports never overlap: while one runs none is
/// due, and a transition meanwhile makes another due right after it. Transitions do not shift the
/// beats of the interval; beats that a long export missed are skipped.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    interval: Duration,
    next_beat: Timestamp,
    last_start: Option<Timestamp>,
    /// How long an agent without a link waits between its first and second export.
    first_rest: Duration,
    /// When an agent without a link exports next.
    next_idle: Option<Timestamp>,
    wanted: bool,
    /// Whether the started export was due for a transition.
    is_transition: bool,
    running: bool,
}

impl Pace {
    /// `place` is a random number from 0 to 1. It sets where in the interval the beats fall, and
    /// where in [`REST`] an agent without a link exports. So the agents of a fleet that is installed
    /// at once do not export in step, nor reconnect in step to a Collector that was restarted.
    pub(crate) fn new(now: Timestamp, interval: Duration, place: f64) -> Self {
        let interval = interval.max(SHORTEST_GAP);
        // The whole part is the beat within REST, the fraction is the place within the interval. Two
        // figures that both grew with `place` would leave most combinations unused.
        let beats = (REST.as_secs_f64() / interval.as_secs_f64()).floor();
        let place = place.clamp(0.0, 1.0) * beats.max(1.0);
        let beat = place.ceil().max(1.0);
        Self {
            interval,
            next_beat: now + interval.mul_f64(1.0 - (beat - place).min(1.0)),
            last_start: None,
            first_rest: interval.mul_f64(beat),
            next_idle: None,
            wanted: false,
            is_transition: false,
            running: false,
        }
    }

    /// Makes an export due at once: a change must not wait for the interval.
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
        self.is_transition = std::mem::take(&mut self.wanted);
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

    /// Whether an agent without a link may skip the started export: nothing has changed, and it
    /// exported its state less than [`REST`] ago.
    pub(crate) fn is_rest(&self, now: Timestamp) -> bool {
        // A beat may come a little early or late.
        let soon = now + self.interval / 2;
        let rested = self.next_idle.is_none_or(|next| soon >= next);
        !self.is_transition && !rested
    }

    /// Marks the running export as ended, whether it arrived or not; `idle` if the agent had no link.
    pub(crate) fn done(&mut self, idle: bool) {
        self.running = false;
        let rest = if self.next_idle.is_none() {
            self.first_rest
        } else {
            REST
        };
        let started = self.last_start.filter(|_| idle);
        self.next_idle = started.map(|start| start + rest);
    }

    /// Marks the running export as skipped.
    pub(crate) const fn skipped(&mut self) {
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
        Pace::new(ms(0), INTERVAL, 1.0)
    }

    #[test]
    fn exports_at_each_interval() {
        let mut pace = pace();
        for beat in 1..4 {
            assert_eq!(pace.next_deadline(), Some(ms(beat * 10_000)));
            assert!(!pace.poll(ms(beat * 10_000 - 1)));
            assert!(pace.poll(ms(beat * 10_000)));
            pace.done(false);
        }
    }

    #[test]
    fn exports_a_transition_at_once_and_keeps_the_beat() {
        let mut pace = pace();
        pace.transition();
        assert!(pace.poll(ms(3)));
        pace.done(false);
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
                pace.done(false);
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
        pace.done(false);
        assert!(pace.poll(ms(1_000)));
        pace.done(false);
        assert_eq!(pace.next_deadline(), Some(ms(10_000)));
    }

    #[test]
    fn skips_the_beats_of_a_long_export() {
        let mut pace = pace();
        assert!(pace.poll(ms(10_000)));
        pace.done(false);
        assert!(pace.poll(ms(45_000)));
        pace.done(false);
        assert_eq!(pace.next_deadline(), Some(ms(55_000)));
    }

    #[test]
    fn without_a_link_it_exports_once_a_minute_and_at_once_on_a_transition() {
        let mut pace = pace();
        let mut exports = Vec::new();
        // Each beat is some milliseconds late.
        for (beat, late) in (1..25).zip([3, 1, 4, 1, 5].into_iter().cycle()) {
            if beat == 16 {
                pace.transition();
                assert!(pace.poll(ms(155_000)));
                assert!(!pace.is_rest(ms(155_000)));
                pace.done(true);
                exports.push(155);
            }
            let now = ms(beat * 10_000 + late);
            assert!(pace.poll(now));
            if pace.is_rest(now) {
                pace.skipped();
            } else {
                pace.done(true);
                exports.push(beat * 10);
            }
        }
        assert_eq!(exports, [10, 70, 130, 155, 210]);

        // Once the last link is gone, the next beat exports that.
        pace.transition();
        assert!(pace.poll(ms(245_000)));
        pace.done(false);
        assert!(pace.poll(ms(250_000)));
        assert!(!pace.is_rest(ms(250_000)));
    }

    #[test]
    fn a_long_interval_is_kept_without_a_link_too() {
        let mut pace = Pace::new(ms(0), Duration::from_secs(120), 1.0);
        for beat in 1..4 {
            assert!(pace.poll(ms(beat * 120_000)));
            assert!(!pace.is_rest(ms(beat * 120_000)));
            pace.done(true);
        }
    }

    #[test]
    fn agents_that_start_together_do_not_export_together() {
        const AGENTS: u32 = 600;
        for idle in [false, true] {
            let mut exports = [0; 60];
            for agent in 0..AGENTS {
                let place = f64::from(agent) / f64::from(AGENTS);
                let mut pace = Pace::new(ms(0), INTERVAL, place);
                // The fifth minute, for it goes on so.
                while let Some(due) = pace.next_deadline().filter(|due| *due < ms(300_000)) {
                    assert!(pace.poll(due));
                    if idle && pace.is_rest(due) {
                        pace.skipped();
                        continue;
                    }
                    pace.done(idle);
                    if let Some(into) = due.as_nanos().checked_sub(240_000_000_000) {
                        exports[usize::try_from(into / 1_000_000_000).unwrap()] += 1;
                    }
                }
            }
            let evenly = if idle { AGENTS / 60 } else { AGENTS / 10 };
            assert_eq!(exports.iter().sum::<u32>(), evenly * 60, "{exports:?}");
            let most = exports.into_iter().max().unwrap();
            assert!(most <= evenly * 3 / 2, "idle: {idle}: {exports:?}");
        }
    }

    #[test]
    fn a_beat_shortly_after_a_transition_waits_for_the_gap() {
        let mut pace = pace();
        pace.transition();
        assert!(pace.poll(ms(9_900)));
        pace.done(false);
        assert_eq!(pace.next_deadline(), Some(ms(10_100)));
    }
}
