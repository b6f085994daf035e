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
    export_view::REQUEST_LINKS,
    flat_export::{FlatExport, flatten},
    *,
};
use crate::{
    link::{Cause, CheckKind, Counts, State},
    snapshot::{
        AgentSnapshot, Departed, LinkSnapshot, PodCounts, SeriesName, Snapshot, Unobserved,
    },
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
        self.export_all(links, Vec::new()).pop().unwrap()
    }

    /// Every request of one export.
    fn export_all(
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

    fn export_snapshot(&self, snapshot: Snapshot) -> Vec<ResourceMetrics> {
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

    fn export(&self, links: Vec<LinkSnapshot>) -> FlatExport {
        flatten(&self.export_raw(links))
    }
}

fn name(pod: &str) -> SeriesName {
    SeriesName {
        peer: "autoscaler".to_owned(),
        namespace: "knative-serving".to_owned(),
        pod: pod.to_owned(),
    }
}

fn link(pod: &str) -> LinkSnapshot {
    LinkSnapshot {
        name: name(pod),
        pid: 4711,
        state: State::Reachable { since: None },
        peer_address: None,
        rtt: Some(Duration::from_micros(250)),
        silence: Some(Duration::from_millis(1200)),
        total: PodCounts {
            counts: counts_of(3, &[(CheckKind::Connect, Cause::ConnectionRefused, 2)], 1),
            retransmits: 5,
            lives: 1,
        },
    }
}

/// A pod that ended, after so many lives.
fn departed(pod: &str, lives: u64) -> Departed {
    let mut total = link(pod).total;
    total.lives = lives;
    Departed {
        name: name(pod),
        total,
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
    let export = harness.export_raw(vec![link("a")]);
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
            ("kn.activator.stats.conn.lives", "{process}"),
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
    let first = harness.export(vec![link("a")]);
    for metric in [
        CHECKS,
        links::ERRORS,
        "kn.activator.stats.conn.connects",
        "kn.activator.stats.conn.retransmits",
    ] {
        assert_eq!(total(&first, metric), 0.0, "{metric}");
    }
    assert_eq!(first[CHECKS].len(), 3);
    // Of a dial, of liveness, and of the end of a live connection.
    assert_eq!(first[links::ERRORS].len(), 14 + 18 + 15);
    assert_eq!(first[REACHABLE][A], 1.0);

    let second = harness.export(vec![link("a")]);
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
    let third = harness.export(vec![link("a"), link("b")]);
    assert_eq!(
        third["kn.activator.stats.conn.retransmits"],
        BTreeMap::from([(A.to_owned(), 5.0), (B.to_owned(), 0.0)])
    );
}

#[test]
fn an_unexpected_pair_is_exported_once_it_is_counted() {
    let harness = Harness::new();
    let mut odd = link("a");
    odd.total.counts = counts_of(0, &[(CheckKind::Disconnect, Cause::Dns, 1)], 0);
    harness.export(vec![odd.clone()]);
    let errors = &harness.export(vec![odd])[links::ERRORS];
    assert_eq!(errors.len(), 14 + 18 + 15 + 1);
}

#[test]
fn reachable_waits_for_the_grace_and_gauges_for_a_connection() {
    let harness = Harness::new();
    let young = LinkSnapshot {
        state: State::Starting,
        rtt: None,
        silence: None,
        ..link("a")
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
        ..link("a")
    }]);
    assert_eq!(export[REACHABLE][A], 0.0);
}

const RETRANSMITS: &str = "kn.activator.stats.conn.retransmits";

/// 100 refused dials a second for 9 s, and the activator is killed 1 s before the next export: of 900,
/// 500 were exported.
#[test]
fn what_an_ended_pod_counted_is_exported_once_more() {
    let harness = Harness::new();
    harness.export(vec![link("a"), link("b")]);
    let mut last = departed("a", 1);
    last.total.retransmits = 900;
    let first = &harness.export_all(vec![link("b")], vec![last.clone()])[0];
    let first = flatten(first);
    assert_eq!(first[RETRANSMITS][A], 900.0);
    assert_eq!(first["statlink.links"][""], 1.0);
    // It is not known any more whether it is reachable.
    for gauge in [REACHABLE, "kn.activator.stats.conn.rtt"] {
        let pods: Vec<_> = first[gauge].keys().collect();
        assert_eq!(pods, [B], "{gauge}");
    }
    let next = flatten(&harness.export_all(vec![link("b")], vec![last])[0]);
    for (metric, points) in next.iter().filter(|(metric, _)| metric.starts_with("kn.")) {
        let of_b = points.keys().all(|key| key.contains("k8s.pod.name=b"));
        assert!(of_b, "{metric}");
    }
}

#[test]
fn a_pod_that_comes_back_goes_on_and_its_next_end_is_exported_too() {
    let harness = Harness::new();
    let exports = |links: Vec<LinkSnapshot>, departed: Vec<Departed>| {
        let export = flatten(&harness.export_all(links, departed)[0]);
        export.get(RETRANSMITS).map(|points| points[A])
    };
    assert_eq!(exports(vec![link("a")], vec![]), Some(0.0));
    assert_eq!(exports(vec![], vec![departed("a", 1)]), Some(5.0));
    assert_eq!(exports(vec![], vec![departed("a", 1)]), None);
    // Not from 0 again: that would be a fall under one start time.
    assert_eq!(exports(vec![link("a")], vec![]), Some(5.0));
    assert_eq!(exports(vec![], vec![departed("a", 2)]), Some(5.0));
    assert_eq!(exports(vec![], vec![departed("a", 2)]), None);
    // Once its account is closed, a pod of that name is a new one.
    assert_eq!(exports(vec![], vec![]), None);
    assert_eq!(exports(vec![link("a")], vec![]), Some(0.0));
}

#[test]
fn a_pod_that_came_and_went_between_two_exports_is_exported_twice() {
    let harness = Harness::new();
    let snapshot = Arc::new(Snapshot {
        departed: vec![departed("a", 1)],
        ..Snapshot::default()
    });
    let exported = |expected: Option<f64>, withheld| {
        harness.memory.reset();
        let delivery = harness.pipeline.export(&snapshot);
        assert_eq!((delivery.arrived, delivery.withheld), (true, withheld));
        let exports = harness.memory.get_finished_metrics().unwrap();
        let retransmits = flatten(&exports[0]).remove(RETRANSMITS);
        assert_eq!(retransmits.map(|points| points[A]), expected);
    };
    assert!(!harness.pipeline.is_idle(&snapshot));
    exported(Some(0.0), true);
    exported(Some(5.0), false);
    assert!(harness.pipeline.is_idle(&snapshot));
    exported(None, false);
}

/// The errors of 150 pods once went to `otel.metric.overflow`, the real one's among them.
#[test]
fn however_many_links_there_are_each_is_exported_in_full_and_agrees() {
    let harness = Harness::new();
    let failed: Vec<_> = CheckKind::ALL
        .into_iter()
        .flat_map(|kind| Cause::ALL.map(|cause| (kind, cause, 1)))
        .collect();
    let pods = REQUEST_LINKS * 3 + 1;
    let full = |pod: usize| {
        let mut link = link(&format!("pod-{pod}"));
        link.total.counts = counts_of(1, &failed, 1);
        link
    };
    let links: Vec<_> = (0..pods).map(full).collect();
    harness.export_all(links.clone(), Vec::new());
    let requests = harness.export_all(links, Vec::new());
    assert_eq!(requests.len(), 4);
    let requests: Vec<_> = requests.iter().map(flatten).collect();
    let mut seen = 0;
    for request in &requests {
        let (errors, checks) = (&request[links::ERRORS], &request[CHECKS]);
        assert!(errors.keys().all(|key| !key.contains("overflow")));
        assert_eq!(errors.len() / failed.len(), request[REACHABLE].len());
        assert_eq!(checks.len() / 3, request[REACHABLE].len());
        assert!(total(request, links::ERRORS) <= total(request, CHECKS));
        seen += request[REACHABLE].len();
    }
    assert_eq!(seen, pods);
    // The agent's own figures are in one of them.
    let own: Vec<_> = requests
        .iter()
        .map(|request| {
            request
                .keys()
                .filter(|it| it.starts_with("statlink"))
                .count()
        })
        .collect();
    assert_eq!(own, [10, 0, 0, 0]);
}

#[test]
fn names_as_long_as_they_may_be_make_smaller_requests() {
    let long = |n: usize| {
        let mut link = link(&format!("{n:0>253}"));
        link.name.namespace = "n".repeat(63);
        link.name.peer = "p".repeat(2_000);
        link
    };
    let harness = Harness::new();
    let requests = harness.export_all((0..100).map(long).collect(), Vec::new());
    let sizes: Vec<_> = requests
        .iter()
        .map(|request| flatten(request)[REACHABLE].len())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 100);
    assert!(sizes.iter().all(|size| *size < REQUEST_LINKS), "{sizes:?}");
}

#[test]
fn without_a_link_it_exports_that_it_lives_and_which_hooks_it_lacks() {
    let export = Harness::new().export(Vec::new());
    let points: Vec<_> = export
        .iter()
        .flat_map(|(metric, points)| points.keys().map(move |key| format!("{metric} {key}")))
        .collect();
    assert_eq!(
        points,
        [
            "statlink.exports statlink.export.outcome=failed",
            "statlink.exports statlink.export.outcome=ok",
            "statlink.hook.attached statlink.hook.name=tcp_send_reset",
            "statlink.links ",
        ]
    );
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
    let export = Harness::new().export(vec![link("a"), link("b")]);
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

#[test]
fn pods_that_are_not_observed_and_processes_without_a_link_are_told_though_there_is_no_link() {
    let unobserved = |pod, reason| Unobserved {
        name: name(pod),
        since: Duration::from_secs(12),
        reason,
        explanation: String::new(),
    };
    let snapshot = Snapshot {
        unobserved: vec![
            unobserved("a", "no_process"),
            unobserved("b", "unplaced"),
            unobserved("c", "unplaced"),
        ],
        agent: AgentSnapshot {
            refused: vec![("name_taken", 0), ("unplaced", 3)],
            ..AgentSnapshot::default()
        },
        ..Snapshot::default()
    };
    let exported = Harness::new().export_snapshot(snapshot);
    let [export] = &exported[..] else {
        panic!("{exported:#?}");
    };
    let export = flatten(export);
    let pods = &export["statlink.pods.unobserved"];
    assert_eq!(pods["statlink.unobserved.reason=no_process"], 1.0);
    assert_eq!(pods["statlink.unobserved.reason=unplaced"], 2.0);
    assert_eq!(pods.len(), 2);
    let refused = &export["statlink.clients.refused"];
    assert_eq!(refused["statlink.refusal.reason=unplaced"], 3.0);
    assert_eq!(refused.len(), 1);
    let unknown = &export["statlink.links.unknown"];
    assert_eq!(unknown["statlink.unknown.reason=not_observed"], 3.0);
    assert!(!export.contains_key(REACHABLE));
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

/// The last counts of a pod are kept for as long as the Collector is away.
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
