//! The gauge in each export, compared with what the activator saw.

use std::time::{Duration, SystemTime};

use super::{Verdict, Window, Wrong};
use crate::{
    catalogue::Kind,
    figures::Figures,
    truth::{Saw, Seen, outages},
};

impl Window {
    /// The gauge is 0 during every lasting outage, and 1 while the activator is connected and no
    /// fault blocks the connection.
    pub(super) fn judge_gauge(&self, verdict: &mut Verdict, seen: &[Seen], exports: &[Figures]) {
        // Before its first connection a link is down from the end of its start-up grace.
        let born = self.birth.then(|| self.start + START_UP_GRACE);
        let mut outages = outages(seen, born);
        // A link that connects within the grace has no outage.
        outages.retain(|(from, to)| to.is_none_or(|to| to > *from));
        for (from, to) in &outages {
            let to = to.unwrap_or_else(|| self.healed());
            let inside = |at: SystemTime| at > *from + EXPORTED_WITHIN + self.stall && at < to;
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
            let reported = exports.iter().any(|figures| {
                figures.reachable == Some(false)
                    && figures.confirmed.is_some_and(|at| at >= *from)
                    && figures
                        .observed
                        .is_some_and(|at| at <= to + EXPORTED_WITHIN + self.stall)
            });
            let length = to.duration_since(*from).unwrap_or_default();
            if !reported && !self.blind && length >= LASTS {
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

    /// Whether the connection was up and unblocked at `at`, for long enough to be known.
    fn is_up(&self, at: SystemTime, seen: &[Seen]) -> bool {
        let confirmed = if self.has(Kind::HeldRefusal) {
            PROVEN
        } else {
            CONFIRMED
        };
        let newest = seen
            .iter()
            .rev()
            .filter(|seen| seen.at <= at)
            .find_map(|seen| match seen.what {
                Saw::Established => Some(seen.at + confirmed + EXPORTED_WITHIN + self.stall <= at),
                Saw::Lost(_) | Saw::Ended => Some(false),
                Saw::DialFailed(_)
                | Saw::LookupFailed
                | Saw::Flapped(_)
                | Saw::Accepted
                | Saw::NativeLost => None,
            });
        let disturbed = self.faults.iter().any(|fault| {
            let until = fault
                .healed
                .map(|healed| healed + fault.aftermath() + EXPORTED_WITHIN + self.stall);
            fault.kind.stalls() && fault.at <= at && until.is_none_or(|until| at <= until)
        });
        // The activator logs an end later than its kernel knows it.
        let ends = seen.iter().any(|seen| {
            let soon = seen
                .at
                .duration_since(at)
                .is_ok_and(|after| after <= PRINTED + self.stall);
            matches!(seen.what, Saw::Lost(_)) && soon
        });
        newest.unwrap_or(!self.birth) && !disturbed && !ends
    }
}

fn since(from: SystemTime, at: Option<SystemTime>) -> f64 {
    let after = at.and_then(|at| at.duration_since(from).ok());
    after.unwrap_or_default().as_secs_f64()
}

/// How late an export may be on a busy machine: twice the figure promised at the Collector. The
/// table has the measured figures.
const EXPORTED_WITHIN: Duration = Duration::from_secs(1);
/// An outage this long is in at least one export: a transition is exported at once, at most five
/// times a second, and otherwise at the next interval.
const LASTS: Duration = Duration::from_secs(3);
const START_UP_GRACE: Duration = Duration::from_secs(5);
/// *Upgraded* is known 250 ms after the answer.
const CONFIRMED: Duration = Duration::from_millis(250);
/// After a held refusal, once the activator has sent something: its first ping comes after 3.33 s,
/// and the agent looks once a second.
const PROVEN: Duration = Duration::from_millis(3_334 + 1_000);
/// How late an activator may log an end.
const PRINTED: Duration = Duration::from_millis(500);
