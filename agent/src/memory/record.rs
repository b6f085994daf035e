//! What is remembered: of each pod, and of what receivers were told.
//!
//! Kinds and causes are stored by their words, so a record of a build with another list of them is
//! either understood or refused, and never taken for something else.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    link::{Cause, CheckKind, Legacy},
    snapshot::{PodCounts, SeriesName},
    time::Timestamp,
};

/// What the agent before this one left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// What it knew of each pod.
    pub(crate) pods: Vec<Pod>,
    /// How far it had told each receiver.
    pub(crate) told: Vec<Told>,
    /// Whom it told.
    pub(crate) receivers: BTreeSet<Receiver>,
}

impl Left {
    /// Whether something of it is to happen after `now`: then it is not what an agent left.
    pub(crate) fn is_after(&self, now: Timestamp) -> bool {
        self.pods.iter().any(|pod| {
            let outages = pod.processes.iter();
            let outages = outages.filter_map(|process| process.legacy.outage.as_ref());
            let moments = outages.flat_map(|outage| {
                let attempts = outage.attempts.iter().map(|attempt| attempt.at);
                attempts.chain([outage.since])
            });
            moments.chain([pod.last_seen]).any(|at| at > now)
        })
    }
}

/// What is remembered of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pod {
    /// What names its series.
    pub(crate) name: SeriesName,
    /// Its uid, where it is known.
    pub(crate) uid: Option<String>,
    /// Since when its series count, in nanoseconds since the Unix epoch.
    pub(crate) series_began: u64,
    /// What all its lives have counted, the present ones included.
    pub(crate) total: Tally,
    /// Why the life that ended last was never reachable, if it was not.
    pub(crate) unreached: Option<Cause>,
    /// When it had a process last, to a minute.
    pub(crate) last_seen: Timestamp,
    /// Its processes.
    pub(crate) processes: Vec<Process>,
}

#[cfg(test)]
impl Pod {
    /// A pod that has counted nothing.
    pub(crate) fn counting_since(
        name: SeriesName,
        series_began: u64,
        last_seen: Timestamp,
    ) -> Self {
        Self {
            name,
            uid: None,
            series_began,
            total: Tally::default(),
            unreached: None,
            last_seen,
            processes: Vec::new(),
        }
    }
}

/// What is remembered of one process of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    /// Which.
    pub(crate) id: ProcessId,
    /// Why it has never been reachable, if it has not.
    pub(crate) unreached: Option<Cause>,
    /// What its link has to know to go on.
    pub(crate) legacy: Legacy,
}

/// Names a process of one boot: the kernel uses an id again, but not with the same start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessId {
    /// The process's id.
    pub(crate) pid: u32,
    /// When it was started, in clock ticks since boot.
    pub(crate) started: u64,
}

/// Who is told of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Receiver {
    /// A Collector, by OTLP.
    Collector,
    /// A Prometheus that scrapes the page.
    Page,
}

/// How far a receiver was told of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    /// Who.
    pub(crate) to: Receiver,
    /// What names its series.
    pub(crate) name: SeriesName,
    /// That its last counts have arrived; `None` while only its zeros have.
    pub(crate) ended: Option<Ended>,
}

/// The last counts of a pod have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ended {
    /// After so many lives.
    pub(crate) lives: u64,
    /// When first.
    pub(crate) at: Timestamp,
}

/// What a pod has counted: what is 0 is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tally {
    checks: Vec<(CheckKind, u64)>,
    errors: Vec<(CheckKind, Cause, u64)>,
    connects: u64,
    retransmits: u64,
    lives: u64,
}

impl From<&PodCounts> for Tally {
    fn from(total: &PodCounts) -> Self {
        let counts = &total.counts;
        let checks = CheckKind::ALL.map(|kind| (kind, counts.checks(kind)));
        let pairs = CheckKind::ALL
            .into_iter()
            .flat_map(|kind| Cause::ALL.map(|cause| (kind, cause, counts.errors(kind, cause))));
        Self {
            checks: checks.into_iter().filter(|(_, n)| *n > 0).collect(),
            errors: pairs.filter(|(.., n)| *n > 0).collect(),
            connects: counts.connects(),
            retransmits: total.retransmits,
            lives: total.lives,
        }
    }
}

impl From<&Tally> for PodCounts {
    fn from(tally: &Tally) -> Self {
        let mut total = Self {
            retransmits: tally.retransmits,
            lives: tally.lives,
            ..Self::default()
        };
        for (kind, cause, n) in &tally.errors {
            total.counts.fail(*kind, *cause, *n);
        }
        for (kind, n) in &tally.checks {
            // Each error is a check, and counted with it.
            let passed = n.saturating_sub(total.counts.checks(*kind));
            total.counts.pass(*kind, passed);
        }
        total.counts.connect(tally.connects);
        total
    }
}
