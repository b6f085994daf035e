//! What is exported, as the SDK's in-memory exporter receives it.

use std::{
    collections::BTreeMap,
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
    flat_export::{FlatExport, flatten},
    instruments::MAX_LINKS,
    *,
};
use crate::{
    link::{Cause, CheckKind, Counts, State},
    snapshot::{AgentSnapshot, LinkSnapshot, Snapshot},
    telemetry::exporter::ExportLog,
};

struct Harness {
    pipeline: MetricPipeline,
    memory: InMemoryMetricExporter,
}

impl Harness {
    fn new() -> Self {
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

    fn export_raw(&self, links: Vec<LinkSnapshot>) -> ResourceMetrics {
        let agent = AgentSnapshot {
            hooks: vec![("inet_sock_set_state", true), ("tcp_send_reset", false)],
            missed_events: vec![("inet_sock_set_state", 3)],
            records: vec![("state", 7)],
            lost: vec![("ring_full", 2)],
            ring: Some((64, 4096)),
            last_record: Some(Duration::from_millis(1500)),
            synced: true,
        };
        self.memory.reset();
        assert!(self.pipeline.export(Arc::new(Snapshot { links, agent })));
        self.memory.get_finished_metrics().unwrap().pop().unwrap()
    }

    fn export(&self, links: Vec<LinkSnapshot>) -> FlatExport {
        flatten(&self.export_raw(links))
    }
}

fn link(id: u64, pod: &str) -> LinkSnapshot {
    LinkSnapshot {
        id,
        peer: "autoscaler".to_owned(),
        namespace: "knative-serving".to_owned(),
        pod: pod.to_owned(),
        pid: 4711,
        state: State::Reachable { since: None },
        peer_address: None,
        rtt: Some(Duration::from_micros(250)),
        silence: Some(Duration::from_millis(1200)),
        counts: counts_of(3, &[(CheckKind::Connect, Cause::ConnectionRefused, 2)], 1),
        retransmits: 5,
    }
}

const UNREACHABLE: State<Duration> = State::Unreachable {
    since: Duration::ZERO,
    cause: Cause::Other,
};
const REACHABLE: &str = "kn.activator.stats.conn.reachable";
const CHECKS: &str = "kn.activator.stats.conn.checks";
const A: &str = "k8s.namespace.name=knative-serving k8s.pod.name=a peer=autoscaler";
const B: &str = "k8s.namespace.name=knative-serving k8s.pod.name=b peer=autoscaler";

fn total(export: &FlatExport, metric: &str) -> f64 {
    export[metric].values().sum()
}

#[test]
fn names_units_and_scope_are_as_designed() {
    let harness = Harness::new();
    harness
        .pipeline
        .durations()
        .connect("autoscaler", Duration::from_millis(3), None);
    harness
        .pipeline
        .durations()
        .outage("autoscaler", Duration::from_secs(3), Cause::Stalled);
    let export = harness.export_raw(vec![link(1, "a")]);
    let scope = export.scope_metrics().next().unwrap();
    assert_eq!(scope.scope().name(), "statlink");
    assert_eq!(scope.scope().version(), Some(env!("CARGO_PKG_VERSION")));
    let mut units: Vec<_> = scope.metrics().map(|m| (m.name(), m.unit())).collect();
    units.sort_unstable();
    assert_eq!(
        units,
        [
            ("kn.activator.stats.conn.checks", "{check}"),
            ("kn.activator.stats.conn.connect.duration", "s"),
            ("kn.activator.stats.conn.connects", "{connection}"),
            ("kn.activator.stats.conn.errors", "{error}"),
            ("kn.activator.stats.conn.outage.duration", "s"),
            ("kn.activator.stats.conn.reachable", "{reachable}"),
            ("kn.activator.stats.conn.retransmits", "{segment}"),
            ("kn.activator.stats.conn.rtt", "s"),
            ("kn.activator.stats.conn.silence", "s"),
            ("statlink.exports", "{export}"),
            ("statlink.hook.attached", "{hook}"),
            ("statlink.hook.misses", "{event}"),
            ("statlink.links", "{link}"),
            ("statlink.memory.usage", "By"),
            ("statlink.record.age", "s"),
            ("statlink.records.lost", "{record}"),
            ("statlink.records.read", "{record}"),
            ("statlink.ring.limit", "By"),
            ("statlink.ring.usage", "By"),
        ]
    );
    assert!(scope.metrics().all(|m| !m.description().is_empty()));
}

#[test]
fn counters_are_exported_as_zero_first_and_then_in_full() {
    let harness = Harness::new();
    let first = harness.export(vec![link(1, "a")]);
    for metric in [
        CHECKS,
        links::ERRORS,
        "kn.activator.stats.conn.connects",
        "kn.activator.stats.conn.retransmits",
    ] {
        assert_eq!(total(&first, metric), 0.0, "{metric}");
    }
    assert_eq!(first[CHECKS].len(), 3);
    assert_eq!(first[links::ERRORS].len(), 13 + 16 + 13);
    assert_eq!(first[REACHABLE][A], 1.0);

    let second = harness.export(vec![link(1, "a")]);
    let refused = format!("error.type=connection_refused {A}")
        .replace(" peer", " kn.check.kind=connect peer");
    assert_eq!(second[links::ERRORS][&refused], 2.0);
    assert_eq!(
        second[CHECKS][&A.replace(" peer", " kn.check.kind=connect peer")],
        5.0
    );
    assert_eq!(total(&second, links::ERRORS), 2.0);
    assert_eq!(second["kn.activator.stats.conn.connects"][A], 1.0);
    assert_eq!(second["kn.activator.stats.conn.retransmits"][A], 5.0);
    assert_eq!(second["kn.activator.stats.conn.rtt"][A], 0.00025);
    assert_eq!(second["kn.activator.stats.conn.silence"][A], 1.2);

    // Each link on its own: a second one begins at zero beside the first one's counts.
    let third = harness.export(vec![link(1, "a"), link(2, "b")]);
    assert_eq!(
        third["kn.activator.stats.conn.retransmits"],
        BTreeMap::from([(A.to_owned(), 5.0), (B.to_owned(), 0.0)])
    );
}

#[test]
fn an_unexpected_pair_is_exported_once_it_is_counted() {
    let harness = Harness::new();
    let mut odd = link(1, "a");
    odd.counts = counts_of(0, &[(CheckKind::Disconnect, Cause::Dns, 1)], 0);
    harness.export(vec![odd.clone()]);
    let errors = &harness.export(vec![odd])[links::ERRORS];
    assert_eq!(errors.len(), 13 + 16 + 13 + 1);
}

#[test]
fn an_ended_link_is_gone_from_the_next_export() {
    let harness = Harness::new();
    harness.export(vec![link(1, "a"), link(2, "b")]);
    let next = harness.export(vec![link(2, "b")]);
    for (metric, points) in next.iter().filter(|(metric, _)| metric.starts_with("kn.")) {
        assert!(
            points.keys().all(|key| key.contains("k8s.pod.name=b")),
            "{metric}"
        );
    }
    let none = harness.export(Vec::new());
    assert!(
        none.keys().all(|metric| !metric.starts_with("kn.")),
        "{none:?}"
    );
}

#[test]
fn reachable_waits_for_the_grace_and_gauges_for_a_connection() {
    let harness = Harness::new();
    let young = LinkSnapshot {
        state: State::Starting,
        rtt: None,
        silence: None,
        ..link(1, "a")
    };
    let export = harness.export(vec![young]);
    for metric in [
        REACHABLE,
        "kn.activator.stats.conn.rtt",
        "kn.activator.stats.conn.silence",
    ] {
        assert!(!export.contains_key(metric), "{metric}");
    }
    assert_eq!(export[CHECKS].len(), 3);
    let export = harness.export(vec![LinkSnapshot {
        state: UNREACHABLE,
        ..link(1, "a")
    }]);
    assert_eq!(export[REACHABLE][A], 0.0);
}

#[test]
fn of_two_links_of_one_pod_the_newest_is_exported() {
    let harness = Harness::new();
    harness.export(vec![link(1, "a")]);
    let newest = LinkSnapshot {
        state: UNREACHABLE,
        retransmits: 1,
        ..link(2, "a")
    };
    let both = harness.export(vec![newest.clone(), link(1, "a")]);
    assert_eq!(both[REACHABLE], BTreeMap::from([(A.to_owned(), 0.0)]));
    assert_eq!(both["kn.activator.stats.conn.retransmits"][A], 0.0);
    let alone = harness.export(vec![newest]);
    assert_eq!(alone["kn.activator.stats.conn.retransmits"][A], 1.0);
}

#[test]
fn every_pair_of_many_links_fits_and_errors_never_exceed_checks() {
    let harness = Harness::new();
    let failed: Vec<_> = CheckKind::ALL
        .into_iter()
        .flat_map(|kind| Cause::ALL.map(|cause| (kind, cause, 1)))
        .collect();
    let links: Vec<_> = (0..MAX_LINKS)
        .map(|n| LinkSnapshot {
            counts: counts_of(1, &failed, 1),
            ..link(n as u64, &format!("pod-{n}"))
        })
        .collect();
    for _ in 0..3 {
        let export = harness.export(links.clone());
        let errors = &export[links::ERRORS];
        assert!(errors.keys().all(|key| !key.contains("overflow")));
        assert!(total(&export, links::ERRORS) <= total(&export, CHECKS));
    }
    assert_eq!(harness.export(links)[links::ERRORS].len(), MAX_LINKS * 48);
}

#[test]
fn durations_carry_no_pod() {
    let harness = Harness::new();
    let durations = harness.pipeline.durations();
    durations.connect("autoscaler", Duration::from_millis(500), None);
    durations.connect(
        "autoscaler",
        Duration::from_secs(3),
        Some(Cause::HandshakeFailed),
    );
    durations.outage("autoscaler", Duration::from_secs(90), Cause::PeerClosed);
    let export = harness.export(Vec::new());
    let connect = &export["kn.activator.stats.conn.connect.duration"];
    let expected = [
        ("peer=autoscaler", 0.5),
        ("error.type=handshake_failed peer=autoscaler", 3.0),
    ];
    assert_eq!(
        *connect,
        expected.map(|(key, sum)| (key.to_owned(), sum)).into()
    );
    let outage = &export["kn.activator.stats.conn.outage.duration"];
    assert_eq!(outage["error.type=peer_closed peer=autoscaler"], 90.0);
}

#[test]
fn the_agent_exports_its_own_figures() {
    let export = Harness::new().export(vec![link(1, "a"), link(2, "b")]);
    assert_eq!(export["statlink.links"][""], 2.0);
    assert_eq!(
        export["statlink.hook.attached"]["statlink.hook.name=tcp_send_reset"],
        0.0
    );
    assert_eq!(
        export["statlink.hook.attached"]["statlink.hook.name=inet_sock_set_state"],
        1.0
    );
    assert_eq!(
        export["statlink.hook.misses"]["statlink.hook.name=inet_sock_set_state"],
        3.0
    );
    assert_eq!(
        export["statlink.records.read"]["statlink.record.kind=state"],
        7.0
    );
    assert_eq!(
        export["statlink.records.lost"]["statlink.loss.reason=ring_full"],
        2.0
    );
    assert_eq!(export["statlink.record.age"][""], 1.5);
    assert_eq!(export["statlink.ring.usage"][""], 64.0);
    assert_eq!(export["statlink.ring.limit"][""], 4096.0);
    assert_eq!(
        export["statlink.exports"]["statlink.export.outcome=failed"],
        0.0
    );
    assert!(export["statlink.memory.usage"][""] > 100_000.0);
}

/// Keeps what it is given even if it fails, like a Collector whose answer is lost.
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
        let agent = AgentSnapshot::default();
        assert_eq!(pipeline.export(Arc::new(Snapshot { links, agent })), !fails);
        let exports = flaky.memory.get_finished_metrics().unwrap();
        flatten(exports.last().unwrap())["kn.activator.stats.conn.retransmits"].clone()
    };
    let (a, b) = (|| link(1, "a"), || link(2, "b"));
    let shown = |a, b| BTreeMap::from([(A.to_owned(), a), (B.to_owned(), b)]);
    assert_eq!(retransmits(true, vec![a()])[A], 0.0);
    assert_eq!(retransmits(true, vec![a()])[A], 0.0);
    assert_eq!(retransmits(false, vec![a()])[A], 0.0);
    assert_eq!(retransmits(true, vec![a(), b()]), shown(5.0, 0.0));
    assert_eq!(retransmits(false, vec![a(), b()]), shown(5.0, 0.0));
    assert_eq!(retransmits(false, vec![a(), b()]), shown(5.0, 5.0));
}

#[test]
fn a_shutdown_exports_a_new_link_s_zero_and_then_its_counts() {
    let harness = Harness::new();
    let snapshot = Snapshot {
        links: vec![link(1, "a")],
        ..Snapshot::default()
    };
    assert!(harness.pipeline.shutdown(
        Arc::new(snapshot),
        &ExportLog::new("metrics", String::new())
    ));
    let exports = harness.memory.get_finished_metrics().unwrap();
    let retransmits = |export| flatten(export)["kn.activator.stats.conn.retransmits"][A];
    assert_eq!(
        exports.iter().map(retransmits).collect::<Vec<_>>(),
        [0.0, 5.0]
    );
}

/// `passed` checks of each kind, the failed ones beside them, and connects.
fn counts_of(passed: u64, failed: &[(CheckKind, Cause, u64)], connects: u64) -> Counts {
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
