//! The entries of the memory: pods, and how far receivers were told.
//!
//! Kinds and causes are stored by name. A build with another list of them understands a record or
//! refuses it, and never mistakes one cause for another.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    link::{Cause, CheckKind, CountedConnection, Legacy},
    snapshot::{PodCounts, SeriesName},
    time::Timestamp,
};

/// What the agent before this one left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// The pods it knew.
    pub(crate) pods: Vec<Pod>,
    /// How far it had told each receiver.
    pub(crate) told: Vec<Told>,
    /// The receivers it told.
    pub(crate) receivers: BTreeSet<Receiver>,
    /// Which pinned kernel half it read; `None` if that ended with it.
    pub(crate) half: Option<u32>,
}

impl Left {
    /// Whether it contains a time after `now`. No agent of this boot can have left that.
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
    /// The name of its series.
    pub(crate) name: SeriesName,
    /// Its uid, if known.
    pub(crate) uid: Option<String>,
    /// The start time of its series, in nanoseconds since the Unix epoch.
    pub(crate) series_began: u64,
    /// The counts of all its lives, the present ones included.
    pub(crate) total: Tally,
    /// Why the life that ended last was never reachable; `None` if it was.
    pub(crate) unreached: Option<Cause>,
    /// When it last had a process, updated every minute.
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
    /// The process.
    pub(crate) id: ProcessId,
    /// Why it has never been reachable; `None` if it has been.
    pub(crate) unreached: Option<Cause>,
    /// What its link needs to continue.
    pub(crate) legacy: Legacy,
    /// How far it was read what a pinned kernel half tells of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reading: Option<Reading>,
}

/// How far a pinned kernel half was read of one process. It stands beside the counts, in the same file: so
/// what is counted and what is read are one, whenever the agent dies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reading {
    /// Which kernel half.
    pub(crate) half: u32,
    /// The process's network namespace.
    pub(crate) netns: u32,
    /// Segments sent again that are counted.
    pub(crate) retransmits: u64,
    /// Ends that are counted, by phase and kind. Not of a fixed length: another build may have more kinds, and
    /// is to understand the rest.
    pub(crate) ended: Vec<u32>,
    /// Connections that are counted, and not over.
    pub(crate) counted: Vec<CountedConnection>,
}

/// Identifies a process of one boot: the kernel reuses a process id, but not together with the same
/// start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessId {
    /// The process's id.
    pub(crate) pid: u32,
    /// When it was started, in clock ticks since boot.
    pub(crate) started: u64,
}

/// A receiver of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Receiver {
    /// A Collector, over OTLP.
    Collector,
    /// A Prometheus that scrapes the page.
    Page,
}

/// How far a receiver was told of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    /// The receiver.
    pub(crate) to: Receiver,
    /// The name of the pod's series.
    pub(crate) name: SeriesName,
    /// Set once the pod's last counts have arrived; `None` while only its zeros have.
    pub(crate) ended: Option<Ended>,
}

/// The last counts of a pod have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ended {
    /// The number of lives that those counts include.
    pub(crate) lives: u64,
    /// When they first arrived.
    pub(crate) at: Timestamp,
}

/// The counts of a pod, without those that are 0.
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
            // Every error is also a check, and `fail` has counted it as one.
            let passed = n.saturating_sub(total.counts.checks(*kind));
            total.counts.pass(*kind, passed);
        }
        total.counts.connect(tally.connects);
        total
    }
}
