//! An agent that was restarted in the middle of a window.

use std::time::SystemTime;

use super::{Evidence, Verdict, Window, Wrong, proxies::may_be_a_proxy_failure};
use crate::{reported::REACHABLE, truth::Sums};

impl Window {
    /// The agent counts no less than what happened since it was ready, and no more than what
    /// happened since it was started.
    pub(super) fn judge_restarted(
        &self,
        verdict: &mut Verdict,
        evidence: &Evidence<'_>,
        (started, ready): (SystemTime, SystemTime),
    ) {
        let since = |moment: SystemTime| {
            let seen = evidence.seen.iter().filter(|seen| seen.at >= moment);
            Sums::of(&seen.cloned().collect::<Vec<_>>())
        };
        let (least, most) = (since(ready), since(started));
        let reported = self.counted(&evidence.after);
        verdict.outage = reported.losses > 0 || !reported.failed.is_empty();
        let healed = evidence
            .reported
            .events
            .iter()
            .filter(|event| event.what == REACHABLE)
            .count();
        // The new agent need not count the attempt that was in progress. A connection that stalled
        // before is not live to it, and a stall may heal.
        let attempts = least.attempts().saturating_sub(1)..=most.attempts();
        let losses = least.lost.saturating_sub(1 + least.short.1)..=most.lost + healed as u64;
        if !attempts.contains(&reported.attempts) || !losses.contains(&reported.losses) {
            let text = format!(
                "a new agent counted {reported}; {attempts:?} attempts and {losses:?} losses were possible"
            );
            verdict.add(Wrong::Count, text);
        }
        for (cause, n) in &reported.failed {
            let short = if cause == "handshake_failed" || cause == "connection_reset" {
                most.short.1
            } else {
                0
            };
            let mut seen = most.failed.get(cause.as_str()).copied().unwrap_or_default();
            if self.may_fail_a_proxy(cause, &most) {
                let hidden = most
                    .failed
                    .iter()
                    .filter(|(own, _)| may_be_a_proxy_failure(own));
                seen += hidden.map(|(_, n)| n).sum::<u64>() + most.short.1;
            }
            verdict.causes += n;
            if *n > seen + short {
                verdict.wrong_causes += n - seen;
                let text = format!("a new agent counted {n} attempts failed for {cause} of {seen}");
                verdict.add(Wrong::Cause, text);
            }
        }
    }
}
