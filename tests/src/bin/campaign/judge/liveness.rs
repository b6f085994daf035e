//! The liveness check, every 5 s.

use std::time::Duration;

use super::{Verdict, Window, Wrong, lookups::DNS};
use crate::{
    catalogue::Kind,
    figures::Figures,
    reported::{CONNECT_FAILED, DISCONNECTED, Event, REACHABLE, UNREACHABLE},
};

impl Window {
    /// There is one liveness check every 5 s. While the link is not reachable it is an error, with the
    /// cause of the last end.
    pub(super) fn judge_liveness(&self, verdict: &mut Verdict, events: &[Event], after: &Figures) {
        let before = &self.before.figures;
        let checks = after.checks_since(before, "liveness");
        let span = before.confirmed.zip(after.confirmed);
        if let Some(span) = span.and_then(|(from, to)| to.duration_since(from).ok())
            && !within(checks, span, MOMENT + self.stall)
            // Each life starts its own series of checks.
            && !self.has(Kind::CrashLoop)
        {
            let text = format!("{checks} liveness checks in {:.1} s", span.as_secs_f64());
            verdict.add(Wrong::Count, text);
        }
        let errors = after.errors_since(before, "liveness");
        let ended: Vec<_> = events
            .iter()
            .filter(|event| {
                matches!(
                    event.what.as_str(),
                    DISCONNECTED | CONNECT_FAILED | UNREACHABLE
                )
            })
            .filter_map(|event| event.cause.as_deref())
            .collect();
        // Until something has ended, a new link is in its start-up grace without a known cause.
        let first = |cause: &str| self.birth && cause == "_OTHER";
        // Failed lookups end nothing; they have their own rule.
        let lookups = |cause: &str| cause == DNS;
        for cause in errors.keys().filter(|c| !first(c) && !lookups(c)) {
            if !ended.contains(&cause.as_str()) {
                let text = format!("a liveness error for {cause}, which nothing ended with");
                verdict.add(Wrong::Cause, text);
            }
        }
        let total: u64 = errors.values().sum();
        let (least, most) = liveness_errors(events, self.birth, MOMENT + self.stall);
        if self.has(Kind::CrashLoop) {
            return;
        }
        if !(least..=most).contains(&total) {
            let text =
                format!("{total} liveness errors; {least} to {most} by the outages' lengths");
            verdict.add(Wrong::Count, text);
        }
    }
}

/// One check every 5 s, plus or minus one at each end and the scheduler's delay.
fn within(checks: u64, span: Duration, moment: Duration) -> bool {
    let least = span.saturating_sub(LIVENESS + moment).as_millis() / LIVENESS.as_millis();
    let most = (span + LIVENESS + moment).as_millis() / LIVENESS.as_millis();
    (least..=most).contains(&u128::from(checks))
}

/// The fewest and the most checks that can fall into the reported outages, by when the agent knew
/// of them.
fn liveness_errors(events: &[Event], birth: bool, moment: Duration) -> (u64, u64) {
    let mut since = events.first().filter(|_| birth).map(|event| event.known_at);
    let mut bounds = (0, 0);
    for event in events {
        match event.what.as_str() {
            UNREACHABLE => since = since.or(Some(event.known_at)),
            REACHABLE => {
                let span = since
                    .take()
                    .and_then(|from| event.known_at.duration_since(from).ok());
                let span = span.unwrap_or_default();
                let of = |span: Duration| u64::try_from(span.as_millis() / LIVENESS.as_millis());
                bounds.0 += of(span.saturating_sub(moment)).unwrap_or_default();
                bounds.1 += of(span + moment).unwrap_or_default() + 1;
            }
            _ => {}
        }
    }
    bounds
}

pub(super) const LIVENESS: Duration = Duration::from_secs(5);
/// The scheduler's delay.
pub(super) const MOMENT: Duration = Duration::from_millis(500);
