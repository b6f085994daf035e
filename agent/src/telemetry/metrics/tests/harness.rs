//! Links for tests, and a pipeline that exports them into memory.

use std::{sync::Arc, time::Duration};

use opentelemetry_sdk::{
    Resource,
    metrics::{InMemoryMetricExporter, data::ResourceMetrics},
};

use super::super::{
    flat_export::{FlatExport, flatten},
    pipeline::MetricPipeline,
};
use crate::{
    link::{Cause, CheckKind, Counts, State},
    snapshot::{AgentSnapshot, Departed, LinkSnapshot, PodCounts, SeriesName, Snapshot},
    telemetry::exporter::ExportLog,
};

pub(super) struct Harness {
    pub(super) pipeline: MetricPipeline,
    pub(super) memory: InMemoryMetricExporter,
}

impl Harness {
    pub(super) fn new() -> Self {
        let memory = InMemoryMetricExporter::default();
        let exports = ExportLog::new("metrics", String::new());
        Self {
            pipeline: MetricPipeline::new(
                memory.clone(),
                Resource::builder_empty().build(),
                &exports,
            ),
            memory,
        }
    }

    pub(super) fn export_raw(&self, links: Vec<LinkSnapshot>) -> ResourceMetrics {
        self.export_all(links, Vec::new()).pop().unwrap()
    }

    /// Every request of one export.
    pub(super) fn export_all(
        &self,
        links: Vec<LinkSnapshot>,
        departed: Vec<Departed>,
    ) -> Vec<ResourceMetrics> {
        self.export_snapshot(Snapshot {
            links,
            departed,
            ..Snapshot::default()
        })
    }

    pub(super) fn export_snapshot(&self, snapshot: Snapshot) -> Vec<ResourceMetrics> {
        let agent = AgentSnapshot {
            hooks: vec![("inet_sock_set_state", true), ("tcp_send_reset", false)],
            missed_events: vec![("inet_sock_set_state", 3)],
            records: vec![("state", 7)],
            lost: vec![("ring_full", 2)],
            refused: snapshot.agent.refused.clone(),
            ring: Some((64, 4096)),
            last_record: Some(Duration::from_millis(1500)),
            synced: true,
        };
        self.memory.reset();
        let snapshot = Snapshot { agent, ..snapshot };
        assert!(self.pipeline.export(&Arc::new(snapshot)).arrived);
        self.memory.get_finished_metrics().unwrap()
    }

    pub(super) fn export(&self, links: Vec<LinkSnapshot>) -> FlatExport {
        flatten(&self.export_raw(links))
    }
}

pub(super) fn link(pod: &str) -> LinkSnapshot {
    LinkSnapshot {
        state: State::Reachable { since: None },
        rtt: Some(Duration::from_micros(250)),
        silence: Some(Duration::from_millis(1200)),
        total: PodCounts {
            counts: counts_of(3, &[(CheckKind::Connect, Cause::ConnectionRefused, 2)], 1),
            retransmits: 5,
            lives: 1,
        },
        ..LinkSnapshot::starting(pod)
    }
}

/// A pod that ended after this many lives.
pub(super) fn departed(pod: &str, lives: u64) -> Departed {
    let mut total = link(pod).total;
    total.lives = lives;
    Departed {
        name: SeriesName::of_activator(pod),
        total,
    }
}

pub(super) const UNREACHABLE: State<Duration> = State::Unreachable {
    since: Duration::ZERO,
    cause: Cause::Other,
};
pub(super) const REACHABLE: &str = "kn.activator.stats.conn.reachable";
pub(super) const CHECKS: &str = "kn.activator.stats.conn.checks";
pub(super) const A: &str = "k8s.namespace.name=knative-serving k8s.pod.name=a peer=autoscaler";
pub(super) const B: &str = "k8s.namespace.name=knative-serving k8s.pod.name=b peer=autoscaler";

pub(super) fn total(export: &FlatExport, metric: &str) -> f64 {
    export[metric].values().sum()
}

/// Counts with `passed` checks of each kind, the failed ones, and connects.
pub(super) fn counts_of(passed: u64, failed: &[(CheckKind, Cause, u64)], connects: u64) -> Counts {
    let mut counts = Counts::default();
    for kind in CheckKind::ALL {
        counts.pass(kind, passed);
    }
    for &(kind, cause, n) in failed {
        counts.fail(kind, cause, n);
    }
    counts.connect(connects);
    counts
}
