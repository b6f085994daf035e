//! Exact counts of attempts and losses: the agent's, compared with those of the activator, the
//! kernel and the autoscaler.

use std::{fmt, time::Duration};

use super::{Evidence, Verdict, Window, Wrong, causes::Stalls, proxies::may_be_a_proxy_failure};
use crate::{
    catalogue::{Kind, Way},
    figures::{ByCause, Figures},
    reported::{CONNECT_FAILED, DISCONNECTED, Event},
    truth::{GAVE_UP, Saw, Seen, Sums, outages},
};

/// The counts that both sides have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) failed: ByCause,
    pub(super) attempts: u64,
    connects: u64,
    pub(super) losses: u64,
}

/// The same quantity, counted by several sides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sides {
    pub(crate) agent: Totals,
    pub(crate) activator: Totals,
    /// SYNs of connect(), plus attempts that failed before one.
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
        let reported = self.counted(&evidence.after);
        verdict.causes += reported.failed.values().sum::<u64>();
        let expected: Vec<_> = (sums.short.0..=sums.short.1)
            .map(|short| Counted::expected(sums, short, stalls))
            .collect();
        let nearest = expected.first().cloned().unwrap_or_default();
        verdict.counted.agent = reported.totals();
        verdict.counted.activator = expected
            .iter()
            .find(|of| of.totals() == reported.totals())
            .unwrap_or(&nearest)
            .totals();
        let answers: Vec<_> = self
            .faults
            .iter()
            .flat_map(|f| f.kind.nature().answers)
            .collect();
        if expected.iter().any(|of| of.equals(&reported, &answers)) {
            return;
        }
        let by_proxies = Self::failed_by_proxies(events);
        if expected
            .iter()
            .any(|of| of.equals_with_proxies(&reported, &by_proxies))
        {
            return;
        }
        let same_sums = expected.iter().any(|of| of.totals() == reported.totals());
        if same_sums {
            verdict.wrong_causes += surplus(&reported.failed, &nearest.failed);
            let text = format!("attempts failed for {reported}; the activator saw {nearest}");
            verdict.add(Wrong::Cause, text);
        } else {
            let text = format!("the agent counted {reported}; the activator {nearest}");
            verdict.add(Wrong::Count, text);
        }
    }

    /// The counters at the Collector equal the events one by one, and include each outage.
    pub(super) fn judge_reports(
        &self,
        verdict: &mut Verdict,
        seen: &[Seen],
        events: &[Event],
        after: &Figures,
    ) {
        for (kind, what) in [("disconnect", DISCONNECTED), ("connect", CONNECT_FAILED)] {
            let exported = after.errors_since(&self.before.figures, kind);
            let mut reported = ByCause::new();
            for event in events.iter().filter(|event| event.what == what) {
                let cause = event.cause.clone().unwrap_or_default();
                *reported.entry(cause).or_default() += 1;
            }
            if exported != reported {
                let text = format!("{kind} errors: exported {exported:?}, told {reported:?}");
                verdict.add(Wrong::Count, text);
            }
        }
        let errors = |figures: &Figures| figures.errors("disconnect") + figures.errors("connect");
        let reported = errors(after) > errors(&self.before.figures);
        let longest = outages(seen, None)
            .into_iter()
            .filter_map(|(from, to)| to?.duration_since(from).ok())
            .max();
        // The promise is 2 s with stats and 5.5 s without. A frozen peer acknowledges stats, and so
        // does a sidecar.
        let stalled = self.single().filter(|_| !self.birth).and_then(|fault| {
            let unacknowledged = fault.kind.drops() && self.way != Way::Sidecar;
            let certain = if fault.kind == Kind::ActivatorFrozen {
                LOCAL_STALLED
            } else if self.stats && unacknowledged {
                STALLED_WITH_STATS
            } else {
                STALLED_IDLE
            };
            let length = fault.length();
            (fault.kind.stalls() && length >= certain).then_some(length)
        });
        verdict.outage = reported || longest.is_some() || stalled.is_some();
        let certain = longest.max(stalled);
        if !reported && let Some(length) = certain.filter(|length| *length >= SHORTEST) {
            let text = format!("an outage of {:.3} s was not told", length.as_secs_f64());
            verdict.add(Wrong::Missed, text);
        }
    }

    /// The agent reports each process that the pod's client has had.
    pub(super) fn judge_lives(&self, verdict: &mut Verdict, seen: &[Seen], after: &Figures) {
        let began = seen.iter().filter(|seen| seen.what == Saw::Ended).count() as u64;
        let before = self.before.figures.lives;
        let told = after.lives.saturating_sub(before);
        if !self.birth && told != began {
            let text = format!("{told} lives began, by the agent; {began} did");
            verdict.add(Wrong::Count, text);
        }
    }

    /// The kernel counted as many SYNs, and the autoscaler at least as many upgrades.
    pub(super) fn judge_kernel(&self, verdict: &mut Verdict, evidence: &Evidence<'_>, sums: &Sums) {
        let failed = |cause| sums.failed.get(cause).copied().unwrap_or_default();
        let opens = evidence
            .kernel
            .opens
            .saturating_sub(self.before.kernel.opens);
        // Without a port, without a route, or by a policy, connect() fails before it sends a SYN.
        let portless = failed("address_unavailable");
        let withheld = if self.faults.iter().any(|fault| fault.kind.withholds_syns()) {
            failed("network_unreachable") + failed("host_unreachable") + failed("permission_denied")
        } else {
            0
        };
        let reported = self.counted(&evidence.after).attempts;
        // A sidecar dials at most once for each of the activator's dials, in the same pod.
        let opens = match self.way {
            Way::Direct | Way::Name => opens,
            Way::Sidecar => reported.clamp(opens.div_ceil(2), opens),
        };
        let without = reported.saturating_sub(opens);
        if reported < opens || !(portless..=portless + withheld).contains(&without) {
            let text = format!(
                "{reported} attempts; the kernel opened {opens}, and {portless} had no port, up to \
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
        // The kernel retransmits on connections that the activator has given up, which belong to no
        // link; and a sidecar's connections are in the same pod.
        let gave_up = evidence
            .seen
            .iter()
            .any(|seen| seen.what == Saw::Lost(GAVE_UP));
        let drops = self.faults.iter().any(|fault| fault.kind.drops());
        let others = self.way == Way::Sidecar || drops || gave_up;
        let (reported, kernel) = (counted.agent_retransmits, counted.kernel_retransmits);
        if reported > kernel || (reported < kernel && !others) {
            let text = format!("{reported} segments sent again; the kernel counted {kernel}");
            verdict.add(Wrong::Count, text);
        }
        // If the answer was lost, the server has upgraded a connection that the activator has not.
        let established = Sums::of(evidence.seen).established;
        if upgrades < established {
            let text =
                format!("the bed is wrong: {established} established, but {upgrades} upgraded");
            verdict.add(Wrong::Count, text);
        }
    }

    /// The agent's counts.
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
    /// The counts that the agent must have, if this many connections were too short to be upgraded.
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

    /// Whether the agent's counts are these, given that it knows that ICMP answered some of the
    /// dials that timed out.
    fn equals(&self, reported: &Self, answers: &[&&str]) -> bool {
        let over = surplus(&reported.failed, &self.failed);
        let under = surplus(&self.failed, &reported.failed);
        let timeouts = |of: &Self| of.failed.get("timeout").copied().unwrap_or_default();
        let answered = reported.failed.iter().all(|(cause, n)| {
            let seen = self.failed.get(cause).copied().unwrap_or_default();
            *n <= seen || answers.contains(&&cause.as_str())
        });
        self.totals() == reported.totals()
            && over == under
            && under == timeouts(self).saturating_sub(timeouts(reported))
            && answered
    }

    /// Whether the agent's counts are these, if it attributes some attempts to a proxy's failure.
    /// The activator's own error must then be one that a proxy's failure can cause.
    fn equals_with_proxies(&self, reported: &Self, by_proxies: &ByCause) -> bool {
        let mut own = reported.failed.clone();
        for (cause, n) in by_proxies {
            if let Some(of) = own.get_mut(cause) {
                *of = of.saturating_sub(*n);
            }
        }
        let mut hidden = self.failed.clone();
        hidden.retain(|cause, _| may_be_a_proxy_failure(cause));
        let hidden = surplus(&hidden, &own);
        self.totals() == reported.totals()
            && surplus(&own, &self.failed) == 0
            && surplus(&self.failed, &own) == hidden
            && hidden == by_proxies.values().sum::<u64>()
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

fn surplus(reported: &ByCause, seen: &ByCause) -> u64 {
    let over = |(cause, n): (&String, &u64)| {
        n.saturating_sub(seen.get(cause).copied().unwrap_or_default())
    };
    reported.iter().map(over).sum()
}

/// Outages from this length on must be reported.
const SHORTEST: Duration = Duration::from_millis(100);
const STALLED_WITH_STATS: Duration = Duration::from_millis(2_500);
const STALLED_IDLE: Duration = Duration::from_secs(6);
const LOCAL_STALLED: Duration = Duration::from_secs(13);
