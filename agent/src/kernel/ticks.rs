//! Jiffies as durations. The kernel's tick rate (`CONFIG_HZ`) is not userspace's clock tick, and
//! nothing exports it, so it is measured.

use std::time::Duration;

/// The kernel's tick rate, once enough time has passed to tell it.
#[derive(Debug)]
pub(super) struct Ticks {
    /// `(nanoseconds, jiffies)` at the first look.
    first: (u64, u64),
    hz: Option<u64>,
    /// It has been measured for so long that it does not change any more.
    certain: bool,
}

impl Ticks {
    /// Starts to measure.
    pub(super) const fn new(time_ns: u64, jiffies: u64) -> Self {
        Self {
            first: (time_ns, jiffies),
            hz: None,
            certain: false,
        }
    }

    /// Takes another look.
    pub(super) fn observe(&mut self, time_ns: u64, jiffies: u64) {
        let elapsed = time_ns.saturating_sub(self.first.0);
        let measured_for = Duration::from_nanos(elapsed);
        if self.certain || measured_for < ENOUGH {
            return;
        }
        self.certain = measured_for >= PLENTY;
        let ticks = jiffies.saturating_sub(self.first.1);
        let measured = ticks.saturating_mul(1_000_000_000) / elapsed;
        self.hz = RATES
            .iter()
            .copied()
            .min_by_key(|rate| rate.abs_diff(measured));
    }

    /// How long `jiffies` take; `None` while the rate is not known.
    pub(super) fn duration(&self, jiffies: u32) -> Option<Duration> {
        let nanoseconds = u64::from(jiffies) * 1_000_000_000 / self.hz?;
        Some(Duration::from_nanos(nanoseconds))
    }
}

/// The rates of `kernel/Kconfig.hz`.
const RATES: [u64; 4] = [100, 250, 300, 1000];
/// The shortest measurement in which the nearest two rates (250 and 300) are five ticks apart: a
/// tick more or less does not take one for the other.
const ENOUGH: Duration = Duration::from_millis(100);
/// A CPU without work may count its ticks late, so the rate is measured again until then. In 2 s the
/// nearest two rates are 100 ticks apart; no CPU is that late.
const PLENTY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_more_or_less_does_not_change_the_rate() {
        for (hz, jiffies) in [
            (100, 9..=11),
            (250, 24..=26),
            (300, 29..=31),
            (1000, 99..=101),
        ] {
            for ticks in jiffies {
                let mut measured = Ticks::new(5, 1_000);
                measured.observe(100_000_005, 1_000 + ticks);
                assert_eq!(measured.hz, Some(hz), "{ticks} ticks in 100 ms");
            }
        }
    }

    #[test]
    fn what_was_measured_on_late_ticks_is_corrected() {
        let mut ticks = Ticks::new(0, 1_000);
        ticks.observe(100_000_000, 1_029);
        assert_eq!(ticks.hz, Some(300));
        ticks.observe(2_000_000_000, 1_503);
        assert_eq!(ticks.hz, Some(250));
        ticks.observe(2_100_000_000, 1_900);
        assert_eq!(ticks.hz, Some(250));
    }

    #[test]
    fn unknown_until_enough_time_has_passed() {
        let mut ticks = Ticks::new(0, 0);
        ticks.observe(99_999_999, 25);
        assert_eq!(ticks.duration(1), None);
        ticks.observe(100_000_000, 25);
        assert_eq!(ticks.duration(250), Some(Duration::from_secs(1)));
    }
}
