//! Tests: failing exports, and the last export.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    metrics::{
        InMemoryMetricExporter, Temporality, data::ResourceMetrics, exporter::PushMetricExporter,
    },
};

use super::{
    harness::{A, Harness, departed, link},
    *,
};
use crate::telemetry::exporter::ExportLog;

/// Keeps the data of a request even if the request fails, like a Collector whose answer is lost.
#[derive(Clone, Default)]
struct Flaky {
    memory: InMemoryMetricExporter,
    fails: Arc<AtomicBool>,
}

impl PushMetricExporter for Flaky {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.memory.export(metrics).await?;
        if self.fails.load(Ordering::Relaxed) {
            return Err(OTelSdkError::InternalFailure("away".to_owned()));
        }
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

#[test]
fn a_failed_export_neither_uses_up_the_zero_nor_repeats_it() {
    let flaky = Flaky::default();
    let exports = ExportLog::new("metrics", String::new());
    let pipeline = MetricPipeline::new(flaky.clone(), Resource::builder_empty().build(), &exports);
    let retransmits = |fails, links| {
        flaky.fails.store(fails, Ordering::Relaxed);
        flaky.memory.reset();
        let snapshot = Snapshot {
            links,
            ..Snapshot::default()
        };
        assert_eq!(pipeline.export(&Arc::new(snapshot)).arrived, !fails);
        let exports = flaky.memory.get_finished_metrics().unwrap();
        flatten(exports.last().unwrap())["kn.activator.stats.conn.retransmits"].clone()
    };
    let (a, b) = (|| link("a"), || link("b"));
    let shown = |a, b| BTreeMap::from([(A.to_owned(), a), (B.to_owned(), b)]);
    assert_eq!(retransmits(true, vec![a()])[A], 0.0);
    assert_eq!(retransmits(true, vec![a()])[A], 0.0);
    assert_eq!(retransmits(false, vec![a()])[A], 0.0);
    assert_eq!(retransmits(true, vec![a(), b()]), shown(5.0, 0.0));
    assert_eq!(retransmits(false, vec![a(), b()]), shown(5.0, 0.0));
    assert_eq!(retransmits(false, vec![a(), b()]), shown(5.0, 5.0));
}

/// The agent keeps the last counts of a pod for as long as the Collector is away.
#[test]
fn an_ended_pod_is_exported_until_that_has_arrived() {
    let flaky = Flaky::default();
    let exports = ExportLog::new("metrics", String::new());
    let pipeline = MetricPipeline::new(flaky.clone(), Resource::builder_empty().build(), &exports);
    let export = |fails, links: &[LinkSnapshot], departed: &[Departed]| {
        flaky.fails.store(fails, Ordering::Relaxed);
        flaky.memory.reset();
        let snapshot = Arc::new(Snapshot {
            links: links.to_vec(),
            departed: departed.to_vec(),
            ..Snapshot::default()
        });
        assert_eq!(pipeline.export(&snapshot).arrived, !fails);
        let exports = flaky.memory.get_finished_metrics().unwrap();
        let mut export = flatten(exports.last().unwrap());
        export.remove(RETRANSMITS).map(|points| points[A])
    };
    assert_eq!(export(false, &[link("a")], &[]), Some(0.0));
    for _ in 0..5 {
        assert_eq!(export(true, &[], &[departed("a", 1)]), Some(5.0));
    }
    assert_eq!(export(false, &[], &[departed("a", 1)]), Some(5.0));
    assert_eq!(export(false, &[], &[departed("a", 1)]), None);
}

#[test]
fn a_shutdown_exports_a_new_link_s_zero_and_then_its_counts() {
    let harness = Harness::new();
    let snapshot = Snapshot {
        links: vec![link("a")],
        ..Snapshot::default()
    };
    assert!(harness.pipeline.shutdown(
        &Arc::new(snapshot),
        &ExportLog::new("metrics", String::new())
    ));
    let exports = harness.memory.get_finished_metrics().unwrap();
    let retransmits = |export| flatten(export)["kn.activator.stats.conn.retransmits"][A];
    assert_eq!(
        exports.iter().map(retransmits).collect::<Vec<_>>(),
        [0.0, 5.0]
    );
}
