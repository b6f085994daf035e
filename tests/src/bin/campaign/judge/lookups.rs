//! `dns`: the activator's own log shows lookups that no dial follows.

use std::time::{Duration, SystemTime};

use super::{
    Verdict, Window, Wrong,
    liveness::{LIVENESS, MOMENT},
};
use crate::{
    figures::Figures,
    reported::{Event, UNREACHABLE},
    truth::{Saw, Seen},
};

/// A time without a connection and without a dial: from one end to the end of the next dial.
#[derive(Debug)]
struct Stretch {
    from: SystemTime,
    until: Option<SystemTime>,
    /// Failed dials and connections before it, which determine the activator's pause.
    failures: i32,
    /// When lookups failed.
    lookups: Vec<SystemTime>,
}

impl Window {
    /// Liveness errors have the cause `dns` exactly if lookups fail and no dial follows for long
    /// enough. A dial follows a slow lookup.
    pub(super) fn judge_lookups(
        &self,
        verdict: &mut Verdict,
        seen: &[Seen],
        events: &[Event],
        after: &Figures,
    ) {
        let born = events.first().filter(|_| self.birth);
        let stretches = stretches(seen, born.map(|event| event.known_at));
        let errors = after.errors_since(&self.before.figures, "liveness");
        let reported = errors.get(DNS).copied().unwrap_or_default();
        let most: u64 = stretches.iter().map(Stretch::most).sum();
        let least: u64 = stretches.iter().map(|of| self.least(of, &stretches)).sum();
        if !(least..=most).contains(&reported) {
            let text =
                format!("{reported} liveness errors for {DNS}; {least} to {most} by its lookups");
            verdict.add(Wrong::Cause, text);
        }
        let of_outages = events.iter().filter(|event| event.what == UNREACHABLE);
        for event in of_outages.filter(|event| event.cause.as_deref() == Some(DNS)) {
            if !stretches
                .iter()
                .any(|of| of.may_be_reported_at(event.known_at))
            {
                let text = format!("not reachable for {DNS}, but lookups did not fail then");
                verdict.add(Wrong::Cause, text);
            }
        }
    }

    /// The least number of checks with this cause.
    fn least(&self, of: &Stretch, all: &[Stretch]) -> u64 {
        // The agent discovers a new activator after its first lookup has begun.
        let first = of.lookups.get(usize::from(self.birth));
        let (Some(first), Some(until)) = (first, of.until) else {
            return 0;
        };
        // After it has reported `dns`, the agent does not know how often the activator failed since.
        let reported_before = all
            .iter()
            .any(|other| other.from < of.from && other.most() > 0);
        let failures = if reported_before { STEPS } else { of.failures };
        let pause = LONGEST_FIRST_PAUSE.mul_f64(1.3_f64.powi(failures.min(STEPS)));
        let due = (of.from + pause).max(*first) + ANSWERED + MOMENT;
        // A dial that another fault delays began before it was decided.
        let dial = if self.single().is_some() {
            MOMENT
        } else {
            DIAL
        };
        checks(due, until - dial).unwrap_or_default()
    }
}

impl Stretch {
    /// No sooner than an answer may take, and until the next dial is decided.
    fn may_be_reported_at(&self, at: SystemTime) -> bool {
        let until = self.until.map(|until| until + MOMENT);
        !self.lookups.is_empty()
            && at >= self.from + ANSWERED - MOMENT
            && until.is_none_or(|until| at <= until)
    }

    /// The most checks that can have this cause.
    fn most(&self) -> u64 {
        let until = self.until.unwrap_or_else(SystemTime::now) + MOMENT;
        if self.lookups.is_empty() {
            return 0;
        }
        checks(self.from + ANSWERED - MOMENT, until).map_or(0, |checks| checks + 1)
    }
}

/// The whole periods of liveness checks from `from` to `until`, if it is later.
fn checks(from: SystemTime, until: SystemTime) -> Option<u64> {
    let span = until.duration_since(from).ok()?;
    u64::try_from(span.as_millis() / LIVENESS.as_millis()).ok()
}

fn stretches(seen: &[Seen], born: Option<SystemTime>) -> Vec<Stretch> {
    let mut failures = 0;
    let begin = |from, failures| Stretch {
        from,
        until: None,
        failures,
        lookups: Vec::new(),
    };
    let mut stretches = Vec::new();
    let mut current = born.map(|born| begin(born, failures));
    for seen in seen {
        let ended = match seen.what {
            Saw::LookupFailed => {
                if let Some(of) = current.as_mut().filter(|of| seen.at > of.from) {
                    of.lookups.push(seen.at);
                }
                continue;
            }
            // None of these looks up a name.
            Saw::Flapped(_) | Saw::Ended | Saw::Accepted | Saw::NativeLost => continue,
            Saw::Established => false,
            // A lost connection may have been too short to count as one.
            Saw::DialFailed(_) | Saw::Lost(_) => true,
        };
        if let Some(of) = &mut current {
            of.until = Some(seen.at);
        }
        stretches.extend(current.take());
        if ended {
            failures += 1;
            current = Some(begin(seen.at, failures));
        }
    }
    stretches.extend(current);
    stretches
}

pub(super) const DNS: &str = "dns";
/// How long a successful lookup may take, for the agent.
const ANSWERED: Duration = Duration::from_millis(4_500);
/// The activator's longest pause without a failure before; each failure multiplies it by 1.3.
const LONGEST_FIRST_PAUSE: Duration = Duration::from_millis(150);
const STEPS: i32 = 19;
/// The longest that a dial takes.
const DIAL: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn a_stretch_lasts_from_an_end_to_the_next_dial() {
        let seen = [
            (0, Saw::Lost(&["connection_reset"])),
            (200, Saw::LookupFailed),
            (400, Saw::LookupFailed),
            (10_000, Saw::DialFailed("connection_refused")),
            (20_000, Saw::Established),
        ]
        .map(|(ms, what)| Seen {
            at: at(ms),
            what,
            text: String::new(),
        });
        let stretches = stretches(&seen, None);
        let most: Vec<_> = stretches.iter().map(Stretch::most).collect();
        // In the second stretch nothing was looked up.
        assert_eq!(most, [2, 0]);
        let of = stretches.first().unwrap();
        assert_eq!((of.failures, of.lookups.len()), (1, 2));
        assert!(!of.may_be_reported_at(at(3_900)));
        assert!(of.may_be_reported_at(at(5_000)));
        assert!(!of.may_be_reported_at(at(11_000)));
    }
}
