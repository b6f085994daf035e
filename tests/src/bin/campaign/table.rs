//! The closing table, and the same in JSON.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde_json::{Value, json};
use statlink_tests::observe::quantile;

use crate::{
    catalogue::{Kind, Resource, Way},
    judge::{Sides, Verdict, Violation, Window, Wrong},
};

/// Everything judged so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    rows: BTreeMap<String, Row>,
    overlapping: u64,
    known_after: BTreeMap<String, Spread>,
    exported_after: BTreeMap<String, Spread>,
    counted: Sides,
    /// Faults by how long they were.
    lengths: Spread,
    births: u64,
    violations: BTreeMap<Wrong, u64>,
    causes: u64,
    wrong_causes: u64,
    faults: u64,
}

/// Faults of one kind, on their own.
#[derive(Debug, Default)]
struct Row {
    faults: u64,
    outages: u64,
    wrong: u64,
    agent: Spread,
    collector: Spread,
    recovery: Spread,
    recovery_collector: Spread,
    knative: Spread,
}

/// Durations in seconds.
#[derive(Debug, Default)]
struct Spread(Vec<f64>);

impl Tally {
    pub(crate) fn add(&mut self, window: &Window, verdict: &Verdict) {
        let latencies = &verdict.latencies;
        self.faults += window.faults.len() as u64;
        self.births += u64::from(window.birth);
        self.counted.add(&verdict.counted);
        for fault in &window.faults {
            self.lengths.push(Some(fault.length()));
        }
        self.causes += verdict.causes;
        self.wrong_causes += verdict.wrong_causes;
        for violation in &verdict.violations {
            self.violate(violation);
        }
        for (of, spreads) in [
            (&latencies.known_after, &mut self.known_after),
            (&latencies.exported_after, &mut self.exported_after),
        ] {
            for (cause, after) in of {
                spreads.entry(cause.clone()).or_default().push(Some(*after));
            }
        }
        let Some(fault) = window.single() else {
            self.overlapping += window.faults.len() as u64;
            return;
        };
        let row = self.rows.entry(name(fault.kind, window)).or_default();
        row.faults += 1;
        row.outages += u64::from(verdict.outage);
        row.wrong += verdict.violations.len() as u64;
        row.agent.push(latencies.agent);
        row.collector.push(latencies.collector);
        row.recovery.push(latencies.recovery_agent);
        row.recovery_collector.push(latencies.recovery_collector);
        row.knative.push(latencies.knative);
    }

    pub(crate) fn violate(&mut self, violation: &Violation) {
        *self.violations.entry(violation.wrong).or_default() += 1;
    }

    pub(crate) const fn faults(&self) -> u64 {
        self.faults
    }

    /// Activators that replaced others.
    pub(crate) const fn births(&self) -> u64 {
        self.births
    }

    pub(crate) fn violated(&self) -> u64 {
        self.violations.values().sum()
    }

    /// Aligned, times in seconds.
    pub(crate) fn render(&self) -> String {
        let mut text = format!(
            "{:<28}{:>7}{:>8}{:>6}{:>25}{:>25}{:>17}{:>17}{:>24}\n",
            "fault",
            "faults",
            "outages",
            "wrong",
            "in the agent p50/p99/max",
            "Collector p50/p99/max",
            "back p50/max",
            "back, Collector",
            "Knative p50/max, missed"
        );
        for (name, row) in &self.rows {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{name:<28}{:>7}{:>8}{:>6}{:>25}{:>25}{:>17}{:>17}{:>18}, {:>4}",
                row.faults,
                row.outages,
                row.wrong,
                row.agent.three(),
                row.collector.three(),
                row.recovery.two(),
                row.recovery_collector.two(),
                row.knative.two(),
                row.outages.saturating_sub(row.knative.len()),
            );
        }
        let _ = writeln!(text, "\n{} faults overlapped others", self.overlapping);
        let _ = writeln!(
            text,
            "\n{:<22}{:>36}{:>36}",
            "by cause, p50/p99/max", "kernel's event to agent", "loss to Collector"
        );
        for (cause, spread) in &self.known_after {
            let exported = self.exported_after.get(cause);
            let _ = writeln!(
                text,
                "{cause:<22}{:>8} ×{:>26}{:>8} ×{:>26}",
                spread.len(),
                spread.three(),
                exported.map_or(0, Spread::len),
                exported.map_or("-".to_owned(), Spread::three)
            );
        }
        let Sides {
            agent,
            activator,
            kernel_attempts,
            server_upgrades,
            agent_retransmits,
            kernel_retransmits,
        } = self.counted;
        let _ = writeln!(
            text,
            "\nattempts: agent {}, activators {}, kernel {kernel_attempts}; connects: agent {}, \
             activators {}, autoscalers {server_upgrades}; losses: agent {}, activators {} (stalls \
             that healed included); retransmits: agent {agent_retransmits}, kernel \
             {kernel_retransmits} (of connections given up in silence included)",
            agent.attempts,
            activator.attempts,
            agent.connects,
            activator.connects,
            agent.losses,
            activator.losses
        );
        let _ = writeln!(text, "\n{}", self.summary());
        text
    }

    fn summary(&self) -> String {
        let mut text = format!(
            "{} faults; {} of {} causes right",
            self.faults,
            self.causes - self.wrong_causes.min(self.causes),
            self.causes
        );
        for wrong in Wrong::ALL {
            let n = self.violations.get(&wrong).copied().unwrap_or_default();
            // As above.
            let _ = write!(text, "; {}: {n}", wrong.name());
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, row)| {
            json!({
                "fault": name,
                "faults": row.faults,
                "outages": row.outages,
                "wrong": row.wrong,
                "agent_seconds": row.agent.json(),
                "collector_seconds": row.collector.json(),
                "recovery_agent_seconds": row.recovery.json(),
                "recovery_collector_seconds": row.recovery_collector.json(),
                "knative_seconds": row.knative.json(),
                "knative_missed": row.outages.saturating_sub(row.knative.len()),
            })
        });
        let violations = self.violations.iter();
        let violations: BTreeMap<_, _> = violations.map(|(w, n)| (w.name(), *n)).collect();
        let by_cause = |spreads: &BTreeMap<String, Spread>| -> Value {
            let spreads = spreads.iter();
            spreads
                .map(|(cause, spread)| (cause.clone(), spread.json()))
                .collect()
        };
        let counted = &self.counted;
        json!({
            "faults": self.faults,
            "overlapping": self.overlapping,
            "causes": self.causes,
            "wrong_causes": self.wrong_causes,
            "violations": violations,
            "kernel_to_agent_seconds": by_cause(&self.known_after),
            "loss_to_collector_seconds": by_cause(&self.exported_after),
            "fault_seconds": self.lengths.json(),
            "new_pods": self.births,
            "counted": {
                "attempts": {
                    "agent": counted.agent.attempts,
                    "activators": counted.activator.attempts,
                    "kernel": counted.kernel_attempts,
                },
                "connects": {
                    "agent": counted.agent.connects,
                    "activators": counted.activator.connects,
                    "autoscalers": counted.server_upgrades,
                },
                "losses": {
                    "agent": counted.agent.losses,
                    "activators": counted.activator.losses,
                },
                "retransmits": {
                    "agent": counted.agent_retransmits,
                    "kernel": counted.kernel_retransmits,
                },
            },
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}

impl Spread {
    fn push(&mut self, duration: Option<Duration>) {
        self.0.extend(duration.as_ref().map(Duration::as_secs_f64));
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn at(&self, q: f64) -> Option<f64> {
        quantile(&mut self.0.clone(), q)
    }

    fn three(&self) -> String {
        self.joined(&[0.5, 0.99, 1.0])
    }

    fn two(&self) -> String {
        self.joined(&[0.5, 1.0])
    }

    fn joined(&self, quantiles: &[f64]) -> String {
        let values = quantiles.iter().map(|q| match self.at(*q) {
            Some(seconds) => format!("{seconds:.3}"),
            None => "-".to_owned(),
        });
        values.collect::<Vec<_>>().join("/")
    }

    fn json(&self) -> Value {
        json!({ "n": self.len(), "p50": self.at(0.5), "p99": self.at(0.99), "max": self.at(1.0) })
    }
}

/// A row's name. Stalls are noticed sooner with stats, and a new pod has no connection to lose, so
/// these have their own rows.
fn name(kind: Kind, window: &Window) -> String {
    let name = match window.way {
        Way::Direct | Way::Name => kind.name().to_owned(),
        Way::Sidecar if kind.resource() == Resource::Sidecar => kind.name().to_owned(),
        Way::Sidecar => format!("{}, sidecar", kind.name()),
    };
    if window.birth {
        format!("{name}, new pod")
    } else if kind.drops() || kind == Kind::RejectAll {
        format!("{name}, {}", if window.stats { "stats" } else { "idle" })
    } else {
        name
    }
}
