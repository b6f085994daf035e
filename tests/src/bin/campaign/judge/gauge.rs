//! Reachable, as each export that the Collector had says it, against what the activator saw.

use std::time::{Duration, SystemTime};

use super::{Verdict, Window, Wrong};
use crate::{
    figures::Figures,
    truth::{Saw, Seen, outages},
};

impl Window {
    /// 0 within every outage that lasts, 1 while the activator is connected and nothing keeps the
    /// connection from being heard.
    pub(super) fn judge_gauge(&self, verdict: &mut Verdict, seen: &[Seen], exports: &[Figures]) {
        // Before its first connection a link is down from the end of its start-up grace.
        let born = self.birth.then(|| self.start + START_UP_GRACE);
        let mut outages = outages(seen, born);
        // Connected within the grace: no outage.
        outages.retain(|(from, to)| to.is_none_or(|to| to > *from));
        for (from, to) in &outages {
            let to = to.unwrap_or_else(|| self.healed());
            let inside = |at: SystemTime| at > *from + TOLD && at < to;
            let wrong = exports.iter().find(|figures| {
                let (first, last) = (figures.observed, figures.confirmed);
                let says_so = |at: Option<SystemTime>| at.is_some_and(inside);
                figures.reachable == Some(true) && (says_so(first) || says_so(last))
            });
            if let Some(figures) = wrong {
                let text = format!(
                    "exported reachable 1 up to {:.3} s after it was lost",
                    since(*from, figures.confirmed)
                );
                verdict.add(Wrong::Missed, text);
            }
            let told = exports.iter().any(|figures| {
                figures.reachable == Some(false)
                    && figures.confirmed.is_some_and(|at| at >= *from)
                    && figures.observed.is_some_and(|at| at <= to + TOLD)
            });
            let length = to.duration_since(*from).unwrap_or_default();
            if !told && !self.blind && length >= LASTS {
                let text = format!("reachable was never exported as 0 in {length:?}");
                verdict.add(Wrong::Missed, text);
            }
        }
        for figures in exports
            .iter()
            .filter(|figures| figures.reachable == Some(false))
        {
            let says = [figures.observed, figures.confirmed].into_iter().flatten();
            for at in says.filter(|at| self.is_up(*at, seen)) {
                let text = format!(
                    "exported reachable 0 at +{:.3} s, while connected and heard",
                    since(self.start, Some(at))
                );
                verdict.add(Wrong::FalseOutage, text);
            }
        }
    }

    /// Whether the connection was up and well at `at`, and has been for long enough to be known.
    fn is_up(&self, at: SystemTime, seen: &[Seen]) -> bool {
        let newest = seen
            .iter()
            .rev()
            .filter(|seen| seen.at <= at)
            .find_map(|seen| match seen.what {
                Saw::Established => Some(seen.at + CONFIRMED + TOLD <= at),
                Saw::Lost(_) => Some(false),
                Saw::DialFailed(_) | Saw::LookupFailed | Saw::NativeLost => None,
            });
        let disturbed = self.faults.iter().any(|fault| {
            let until = fault.healed.map(|healed| healed + fault.aftermath() + TOLD);
            fault.kind.stalls() && fault.at <= at && until.is_none_or(|until| at <= until)
        });
        // The activator learns of an end no sooner than its own kernel.
        let ends = seen.iter().any(|seen| {
            let soon = seen
                .at
                .duration_since(at)
                .is_ok_and(|after| after <= PRINTED);
            matches!(seen.what, Saw::Lost(_)) && soon
        });
        newest.unwrap_or(!self.birth) && !disturbed && !ends
    }
}

fn since(from: SystemTime, at: Option<SystemTime>) -> f64 {
    let after = at.and_then(|at| at.duration_since(from).ok());
    after.unwrap_or_default().as_secs_f64()
}

/// What the agent has to know by then, on a machine that is busy: twice what is promised at the
/// Collector. The figures that are measured are in the table.
const TOLD: Duration = Duration::from_secs(1);
/// An outage that no export can miss: a transition is exported at once, five times a second at
/// most, and at the latest with the next interval.
const LASTS: Duration = Duration::from_secs(3);
const START_UP_GRACE: Duration = Duration::from_secs(5);
/// *Upgraded* is known 250 ms after the answer.
const CONFIRMED: Duration = Duration::from_millis(250);
/// How late an activator may print what it learned.
const PRINTED: Duration = Duration::from_millis(500);
