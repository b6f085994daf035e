//! Every attempt and every loss, exactly: the agent's against the activator's, the kernel's and
//! the autoscaler's.

use std::{fmt, time::Duration};

use super::{Evidence, Verdict, Window, Wrong, causes::Stalls, hops::may_be_a_hop_s};
use crate::{
    catalogue::Way,
    figures::{ByCause, Figures},
    told::{CONNECT_FAILED, DISCONNECTED, Event},
    truth::{Seen, Sums, outages},
};

/// What both sides count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) failed: ByCause,
    pub(super) attempts: u64,
    connects: u64,
    pub(super) losses: u64,
}

/// The same thing counted by several.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sides {
    pub(crate) agent: Totals,
    pub(crate) activator: Totals,
    /// SYNs of connect(), and those that failed before one.
    pub(crate) kernel_attempts: u64,
    pub(crate) server_upgrades: u64,
    pub(crate) agent_retransmits: u64,
    pub(crate) kernel_retransmits: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) attempts: u64,
    pub(crate) connects: u64,
    pub(crate) losses: u64,
}

impl Window {
    pub(super) fn judge_counts(
        &self,
        verdict: &mut Verdict,
        evidence: &Evidence<'_>,
        sums: &Sums,
        stalls: Stalls,
        events: &[Event],
    ) {
        let told = self.counted(&evidence.after);
        verdict.causes += told.failed.values().sum::<u64>();
        let expected: Vec<_> = (sums.short.0..=sums.short.1)
            .map(|short| Counted::expected(sums, short, stalls))
            .collect();
        let nearest = expected.first().cloned().unwrap_or_default();
        verdict.counted.agent = told.totals();
        verdict.counted.activator = expected
            .iter()
            .find(|of| of.totals() == told.totals())
            .unwrap_or(&nearest)
            .totals();
        let answers: Vec<_> = self
            .faults
            .iter()
            .flat_map(|f| f.kind.nature().answers)
            .collect();
        if expected.iter().any(|of| of.is_told_by(&told, &answers)) {
            return;
        }
        let by_hops = Self::failed_by_hops(events);
        if expected
            .iter()
            .any(|of| of.is_told_by_hops(&told, &by_hops))
        {
            return;
        }
        let same_sums = expected.iter().any(|of| of.totals() == told.totals());
        if same_sums {
            verdict.wrong_causes += surplus(&told.failed, &nearest.failed);
            let text = format!("attempts failed for {told}; the activator saw {nearest}");
            verdict.add(Wrong::Cause, text);
        } else {
            let text = format!("the agent counted {told}; the activator {nearest}");
            verdict.add(Wrong::Count, text);
        }
    }

    /// What the Collector has is what was told one by one; and each outage is in it.
    pub(super) fn judge_told(
        &self,
        verdict: &mut Verdict,
        seen: &[Seen],
        events: &[Event],
        after: &Figures,
    ) {
        for (kind, what) in [("disconnect", DISCONNECTED), ("connect", CONNECT_FAILED)] {
            let exported = after.errors_since(&self.before.figures, kind);
            let mut told = ByCause::new();
            for event in events.iter().filter(|event| event.what == what) {
                let cause = event.cause.clone().unwrap_or_default();
                *told.entry(cause).or_default() += 1;
            }
            if exported != told {
                let text = format!("{kind} errors: exported {exported:?}, told {told:?}");
                verdict.add(Wrong::Count, text);
            }
        }
        let errors = |figures: &Figures| figures.errors("disconnect") + figures.errors("connect");
        let told = errors(after) > errors(&self.before.figures);
        let longest = outages(seen, None)
            .into_iter()
            .filter_map(|(from, to)| to?.duration_since(from).ok())
            .max();
        // The promise is 2 s with stats and 5.5 s without; a frozen peer acknowledges stats, and so
        // does a sidecar.
        let stalled = self.single().filter(|_| !self.birth).and_then(|fault| {
            let unacknowledged = fault.kind.drops() && self.way != Way::Sidecar;
            let certain = if self.stats && unacknowledged {
                STALLED_WITH_STATS
            } else {
                STALLED_IDLE
            };
            let length = fault.length();
            (fault.kind.stalls() && length >= certain).then_some(length)
        });
        verdict.outage = told || longest.is_some() || stalled.is_some();
        let certain = longest.max(stalled);
        if !told && let Some(length) = certain.filter(|length| *length >= SHORTEST) {
            let text = format!("an outage of {:.3} s was not told", length.as_secs_f64());
            verdict.add(Wrong::Missed, text);
        }
    }

    /// The kernel counted as many SYNs, and the autoscaler no fewer upgrades.
    pub(super) fn judge_kernel(&self, verdict: &mut Verdict, evidence: &Evidence<'_>, sums: &Sums) {
        let failed = |cause| sums.failed.get(cause).copied().unwrap_or_default();
        let opens = evidence
            .kernel
            .opens
            .saturating_sub(self.before.kernel.opens);
        // Without a port, without a route, and by a policy, connect() fails before it sends.
        let portless = failed("address_unavailable");
        let withheld = if self.faults.iter().any(|fault| fault.kind.withholds_syns()) {
            failed("network_unreachable") + failed("host_unreachable") + failed("permission_denied")
        } else {
            0
        };
        let told = self.counted(&evidence.after).attempts;
        // A sidecar dials at most once for each of the activator's dials, in the same pod.
        let opens = match self.way {
            Way::Direct | Way::Name => opens,
            Way::Sidecar => told.clamp(opens.div_ceil(2), opens),
        };
        let without = told.saturating_sub(opens);
        if told < opens || !(portless..=portless + withheld).contains(&without) {
            let text = format!(
                "{told} attempts; the kernel opened {opens}, and {portless} had no port, up to \
                 {withheld} no route or no leave"
            );
            verdict.add(Wrong::Count, text);
        }
        let upgrades = evidence.upgrades.saturating_sub(self.before.upgrades);
        let (retransmits, before) = (evidence.kernel.retransmits, self.before.kernel.retransmits);
        let counted = &mut verdict.counted;
        counted.kernel_attempts = opens + without;
        counted.server_upgrades = upgrades;
        counted.kernel_retransmits = retransmits.saturating_sub(before);
        let (after, before) = (evidence.after.retransmits, self.before.figures.retransmits);
        counted.agent_retransmits = after.saturating_sub(before);
        // What the activator gives up while packets vanish, the kernel still sends, for no link; and a
        // sidecar's connections are in the same pod.
        let others = self.way == Way::Sidecar || self.faults.iter().any(|fault| fault.kind.drops());
        let (told, kernel) = (counted.agent_retransmits, counted.kernel_retransmits);
        if told > kernel || (told < kernel && !others) {
            let text = format!("{told} segments sent again; the kernel counted {kernel}");
            verdict.add(Wrong::Count, text);
        }
        // An answer that vanished is no connection to the activator.
        if upgrades < sums.established {
            let text = format!(
                "the bed is wrong: {} established, but {upgrades} upgraded",
                sums.established
            );
            verdict.add(Wrong::Count, text);
        }
    }

    /// What the agent counted.
    pub(super) fn counted(&self, after: &Figures) -> Counted {
        let before = &self.before.figures;
        Counted {
            failed: after.errors_since(before, "connect"),
            attempts: after.checks_since(before, "connect"),
            connects: after.connects.saturating_sub(before.connects),
            losses: after.checks_since(before, "disconnect"),
        }
    }
}

impl Counted {
    /// What the agent must have counted, if so many connections were too short to be upgraded.
    fn expected(sums: &Sums, short: u64, stalls: Stalls) -> Self {
        let failed = sums.failed.iter();
        let mut failed: ByCause = failed.map(|(c, n)| ((*c).to_owned(), *n)).collect();
        let attempts = failed.values().sum::<u64>() + sums.established;
        for cause in sums
            .short_causes
            .iter()
            .take(usize::try_from(short).unwrap_or(usize::MAX))
        {
            *failed.entry((*cause).to_owned()).or_default() += 1;
        }
        Self {
            failed,
            attempts,
            connects: sums.established.saturating_sub(short),
            losses: (sums.lost + stalls.healed).saturating_sub(short),
        }
    }

    /// Whether the agent's counts are these, if it knows of some dials that timed out that they
    /// were answered by ICMP.
    fn is_told_by(&self, told: &Self, answers: &[&&str]) -> bool {
        let over = surplus(&told.failed, &self.failed);
        let under = surplus(&self.failed, &told.failed);
        let timeouts = |of: &Self| of.failed.get("timeout").copied().unwrap_or_default();
        let answered = told.failed.iter().all(|(cause, n)| {
            let seen = self.failed.get(cause).copied().unwrap_or_default();
            *n <= seen || answers.contains(&&cause.as_str())
        });
        self.totals() == told.totals()
            && over == under
            && under == timeouts(self).saturating_sub(timeouts(told))
            && answered
    }

    /// Whether the agent's counts are these, where it knows of some attempts that it was a hop's
    /// failure that failed them: the activator's own is then one that a hop may be behind.
    fn is_told_by_hops(&self, told: &Self, by_hops: &ByCause) -> bool {
        let mut own = told.failed.clone();
        for (cause, n) in by_hops {
            if let Some(of) = own.get_mut(cause) {
                *of = of.saturating_sub(*n);
            }
        }
        let mut hidden = self.failed.clone();
        hidden.retain(|cause, _| may_be_a_hop_s(cause));
        let hidden = surplus(&hidden, &own);
        self.totals() == told.totals()
            && surplus(&own, &self.failed) == 0
            && surplus(&self.failed, &own) == hidden
            && hidden == by_hops.values().sum::<u64>()
    }

    const fn totals(&self) -> Totals {
        Totals {
            attempts: self.attempts,
            connects: self.connects,
            losses: self.losses,
        }
    }
}

impl Sides {
    pub(crate) fn add(&mut self, other: &Self) {
        for (of, more) in [
            (&mut self.agent, other.agent),
            (&mut self.activator, other.activator),
        ] {
            of.attempts += more.attempts;
            of.connects += more.connects;
            of.losses += more.losses;
        }
        self.kernel_attempts += other.kernel_attempts;
        self.server_upgrades += other.server_upgrades;
        self.agent_retransmits += other.agent_retransmits;
        self.kernel_retransmits += other.kernel_retransmits;
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            failed,
            attempts,
            connects,
            losses,
        } = self;
        write!(
            f,
            "{attempts} attempts, {connects} connects, {losses} losses, failed {failed:?}"
        )
    }
}

fn surplus(told: &ByCause, seen: &ByCause) -> u64 {
    let over = |(cause, n): (&String, &u64)| {
        n.saturating_sub(seen.get(cause).copied().unwrap_or_default())
    };
    told.iter().map(over).sum()
}

/// Outages from this length on must be told.
const SHORTEST: Duration = Duration::from_millis(100);
const STALLED_WITH_STATS: Duration = Duration::from_millis(2_500);
const STALLED_IDLE: Duration = Duration::from_secs(6);
