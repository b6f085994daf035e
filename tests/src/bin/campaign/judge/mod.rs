//! Judges one window of one lane: what was done to it, what the activator saw, what the agent
//! reported, and whether the report is true.
//!
//! The truth is the activator's own log (each dial and each loss with its error), the injected and
//! healed faults with their times, and the kernel's counters. If more than one answer is accepted,
//! the comment says which rule of the link allows it.
//!
//! - [`causes`]: the cause of each loss, and whether each stall was real
//! - [`counts`]: every attempt and every loss, exactly
//! - [`gauge`]: `reachable` at the Collector, at each moment
//! - [`liveness`]: the liveness check, every 5 s
//! - [`lookups`]: `dns`, where no dial follows the activator's lookups
//! - [`proxies`]: failures that a sidecar's connections explain
//! - [`restarted`]: the same for an agent that started in the middle
//! - [`latency`]: how soon a loss was known

mod causes;
mod counts;
mod gauge;
mod latency;
mod liveness;
mod lookups;
mod proxies;
mod restarted;

use std::time::{Duration, SystemTime};

use statlink_tests::tcp::Counters;

use crate::{
    catalogue::{Kind, Way},
    figures::Figures,
    reported::{Event, Reported},
    truth::{Seen, Sums, with_refusals},
};

pub(crate) use counts::Sides;
pub(crate) use latency::Latencies;

/// The time from the first injection until all is calm again.
#[derive(Debug)]
pub(crate) struct Window {
    /// Its number among all windows of the run.
    pub(crate) number: u64,
    pub(crate) start: SystemTime,
    pub(crate) faults: Vec<Injected>,
    pub(crate) before: Before,
    /// The Collector was away for a part of it, so the arrival of exports is not judged.
    pub(crate) blind: bool,
    pub(crate) stats: bool,
    pub(crate) way: Way,
    /// It begins with the start of the activator.
    pub(crate) birth: bool,
    /// When the agent was restarted: from its start to its readiness. Its counters begin at 0.
    pub(crate) restarted: Option<(SystemTime, SystemTime)>,
    /// The longest time that the machine stood still meanwhile.
    pub(crate) stall: Duration,
}

/// The facts at its beginning.
#[derive(Debug, Default)]
pub(crate) struct Before {
    pub(crate) figures: Figures,
    pub(crate) kernel: Counters,
    pub(crate) upgrades: u64,
    pub(crate) history: usize,
    pub(crate) events: usize,
    pub(crate) exports: usize,
}

/// The facts at its end.
pub(crate) struct Evidence<'a> {
    /// The activator's output.
    pub(crate) seen: &'a [Seen],
    pub(crate) reported: &'a Reported,
    pub(crate) after: Figures,
    pub(crate) kernel: Counters,
    /// Websockets that autoscalers upgraded.
    pub(crate) upgrades: u64,
}

/// One fault of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injected {
    pub(crate) kind: Kind,
    pub(crate) at: SystemTime,
    pub(crate) healed: Option<SystemTime>,
}

/// The kinds of mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    Missed,
    FalseOutage,
    Cause,
    Count,
    NotRecovered,
    Promise,
}

/// One mistake, in words.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) wrong: Wrong,
    pub(crate) text: String,
}

/// The result of a window.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    /// There was an outage, by the truth or according to the agent.
    pub(crate) outage: bool,
    /// The number of connect and disconnect errors whose causes were judged.
    pub(crate) causes: u64,
    pub(crate) wrong_causes: u64,
    pub(crate) counted: Sides,
    pub(crate) latencies: Latencies,
}

impl Window {
    /// Its only fault.
    pub(crate) fn single(&self) -> Option<&Injected> {
        match self.faults.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// When the last of its faults was healed.
    pub(crate) fn healed(&self) -> SystemTime {
        let healed = self.faults.iter().filter_map(|fault| fault.healed);
        healed.max().unwrap_or(self.start)
    }

    /// How long after that a fault may still end a connection.
    pub(crate) fn aftermath(&self) -> Duration {
        let longest = self.faults.iter().map(Injected::aftermath).max();
        let longest = longest.unwrap_or_default();
        // A dropped RST is not sent again: only the next ping finds out.
        if self.single().is_none() && !longest.is_zero() {
            longest.max(PING)
        } else {
            longest
        }
    }

    /// Judges it.
    pub(crate) fn judge(&self, evidence: &Evidence<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        let events = self.events(evidence.reported);
        let exports = self.exports(evidence.reported);
        let seen = if self.has(Kind::HeldRefusal) {
            with_refusals(evidence.seen)
        } else {
            evidence.seen.to_vec()
        };
        let sums = Sums::of(&seen);
        if let Some((started, ready)) = self.restarted {
            self.judge_restarted(&mut verdict, evidence, (started, ready));
        } else {
            let stalls = self.judge_losses(&mut verdict, &seen, events);
            self.judge_counts(&mut verdict, evidence, &sums, stalls, events);
            self.judge_proxies(&mut verdict, events, &sums);
            self.judge_reports(&mut verdict, &seen, events, &evidence.after);
            self.judge_lives(&mut verdict, &seen, &evidence.after);
            self.judge_liveness(&mut verdict, events, &evidence.after);
            self.judge_lookups(&mut verdict, &seen, events, &evidence.after);
            self.judge_kernel(&mut verdict, evidence, &sums);
            self.judge_gauge(&mut verdict, &seen, exports);
            self.measure(&mut verdict.latencies, &seen, events, exports);
        }
        verdict
    }

    /// Whether it has a fault of this kind.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.faults.iter().any(|fault| fault.kind == kind)
    }

    pub(crate) fn events<'a>(&self, reported: &'a Reported) -> &'a [Event] {
        reported
            .events
            .get(self.before.events..)
            .unwrap_or_default()
    }

    pub(crate) fn exports<'a>(&self, reported: &'a Reported) -> &'a [Figures] {
        reported
            .exports
            .get(self.before.exports..)
            .unwrap_or_default()
    }
}

impl Injected {
    /// How long it was in force.
    pub(crate) fn length(&self) -> Duration {
        let healed = self.healed.unwrap_or(self.at);
        healed.duration_since(self.at).unwrap_or_default()
    }

    /// How long TCP may still wait after it was healed: as long as it has waited, because its
    /// retransmission timeout doubles each time; and the activator gives up after 10 s, or 13 s
    /// with its last dial.
    pub(crate) fn aftermath(&self) -> Duration {
        if self.kind.drops() || self.kind == Kind::RejectAll {
            self.length().min(LONGEST_SILENCE)
        } else {
            Duration::ZERO
        }
    }
}

impl Verdict {
    pub(crate) fn add(&mut self, wrong: Wrong, text: String) {
        self.violations.push(Violation { wrong, text });
    }
}

impl Wrong {
    pub(crate) const ALL: [Self; 6] = [
        Self::Missed,
        Self::FalseOutage,
        Self::Cause,
        Self::Count,
        Self::NotRecovered,
        Self::Promise,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Missed => "missed outage",
            Self::FalseOutage => "false outage",
            Self::Cause => "wrong cause",
            Self::Count => "count off",
            Self::NotRecovered => "not recovered",
            Self::Promise => "broken promise",
        }
    }
}

/// The interval of an idle activator's pings, with a margin.
const PING: Duration = Duration::from_millis(3_334 + 100);
/// The activator gives up a silent connection after this long.
const LONGEST_SILENCE: Duration = Duration::from_secs(13);
