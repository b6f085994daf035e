//! Whole exports over real sockets to a stand-in for a Collector: both protocols, plain and with
//! mutual TLS, and the ways in which they fail.

mod collector;
mod start_times;

use std::{fs, sync::atomic::Ordering, time::Instant};

use futures_util::FutureExt as _;
use rcgen::KeyPair;
use tokio::net::TcpListener;
use tracing::instrument::WithSubscriber;

use self::collector::{Collector, HANG, mutual_tls};
use super::*;
use crate::{
    link::{CheckKind, State},
    snapshot::{LinkSnapshot, PodCounts, SeriesName},
    telemetry::config::{Overrides, Protocol},
};

fn config(variables: &[(&str, String)]) -> Config {
    let lookup = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| value.clone())
    };
    Config::read(&lookup, &Overrides::default()).unwrap()
}

const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";

const PROTOCOLS: [(Protocol, &str, &str); 2] = [
    (
        Protocol::Grpc,
        "grpc",
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    ),
    (Protocol::Http, "http/protobuf", "/v1/metrics"),
];

/// The brackets belong to the URL: a resolver does not know them.
#[tokio::test]
async fn a_collector_is_reached_by_its_ipv6_address() {
    for (protocol, name, path) in PROTOCOLS {
        let mut collector = Collector::start_on("[::1]:0", protocol, None).await;
        let endpoint = format!("http://{}", collector.address);
        assert!(endpoint.starts_with("http://[::1]:"), "{endpoint}");
        let variables = [(PROTOCOL, name.to_owned()), (ENDPOINT, endpoint)];
        let telemetry = Telemetry::start(&config(&variables)).unwrap();
        assert!(telemetry.export(Arc::default()).await.arrived, "{name}");
        assert_eq!(collector.next().await.path, path);
        assert!(telemetry.shutdown(Arc::default()).await);
    }
}

/// On a current-thread runtime too, where the SDK alone would block itself.
#[tokio::test]
async fn exports_arrive_over_both_protocols() {
    for (protocol, name, path) in PROTOCOLS {
        let mut collector = Collector::start(protocol, None).await;
        let telemetry = Telemetry::start(&config(&[
            (PROTOCOL, name.to_owned()),
            (ENDPOINT, format!("http://{}", collector.address)),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b".to_owned()),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip".to_owned()),
        ]));
        let telemetry = telemetry.unwrap();
        assert!(telemetry.export(Arc::default()).await.arrived, "{name}");
        let seen = collector.next().await;
        assert_eq!(seen.path, path);
        let tenants: Vec<_> = seen.headers.get_all("x-tenant").iter().collect();
        assert_eq!(tenants, ["a b"]);
        let encoding = ["grpc-encoding", "content-encoding"];
        assert!(
            encoding
                .iter()
                .any(|header| seen.headers.get(*header).is_some_and(|v| v == "gzip"))
        );
        assert!(seen.bytes > 100);
        assert!(telemetry.shutdown(Arc::default()).await, "{name}");
        collector.next().await;
        assert_eq!(telemetry.0.metric_exports.ok(), 2);
    }
}

/// A node without an activator has a budget of 1 kB a minute on the wire, which is one export. 400
/// bytes are left for the headers of some six segments.
#[tokio::test]
async fn an_agent_without_a_link_costs_some_hundred_bytes_a_minute() {
    let mut collector = Collector::start(Protocol::Grpc, None).await;
    let endpoint = format!("http://{}", collector.address);
    let variables = |name: &str| {
        let attributes = "k8s.cluster.uid=6f7a0f4e-3a39-4f5e-9a5b-1f0a6f0f3a55".to_owned();
        [
            (ENDPOINT, endpoint.clone()),
            ("OTEL_RESOURCE_ATTRIBUTES", attributes),
        ]
        .into_iter()
        .find_map(|(variable, value)| (variable == name).then_some(value))
    };
    let overrides = Overrides {
        node_name: Some("ip-10-0-128-17.eu-central-1.compute.internal".to_owned()),
        cluster_name: Some("production-eu-central-1".to_owned()),
        service_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Overrides::default()
    };
    let config = Config::read(&variables, &overrides).unwrap();
    let telemetry = Telemetry::start(&config).unwrap();
    // The first export connects, and later ones refer to its headers.
    assert!(telemetry.export(Arc::default()).await.arrived);
    collector.next().await;
    let before = collector.exchanged.load(Ordering::Relaxed);
    assert!(telemetry.export(Arc::default()).await.arrived);
    collector.next().await;
    let exchanged = collector.exchanged.load(Ordering::Relaxed) - before;
    assert!((100..600).contains(&exchanged), "{exchanged} bytes");
    assert!(telemetry.shutdown(Arc::default()).await);
}

/// A Collector takes 4 MiB, uncompressed, and refuses more for good.
#[tokio::test]
async fn a_thousand_links_are_exported_in_requests_that_a_collector_takes() {
    let mut collector = Collector::start(Protocol::Grpc, None).await;
    let telemetry = Telemetry::start(&config(&[
        (ENDPOINT, format!("http://{}", collector.address)),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none".to_owned()),
        (TIMEOUT, "4000".to_owned()),
    ]));
    let telemetry = telemetry.unwrap();
    let mut total = PodCounts::default();
    for kind in CheckKind::ALL {
        for cause in Cause::ALL {
            total.counts.fail(kind, cause, 1);
        }
    }
    let link = |n: u32| LinkSnapshot {
        name: SeriesName::longest(n),
        pid: n,
        state: State::Reachable { since: None },
        rtt: Some(Duration::from_millis(1)),
        silence: Some(Duration::from_millis(1)),
        total: total.clone(),
        ..LinkSnapshot::starting("")
    };
    let snapshot = Arc::new(Snapshot {
        links: (0..1_000).map(link).collect(),
        ..Snapshot::default()
    });
    let mut largest = 0;
    for _ in 0..2 {
        assert!(telemetry.export(Arc::clone(&snapshot)).await.arrived);
        for _ in 0..1_000_usize.div_ceil(64) {
            let bytes = collector.next().await.bytes;
            assert!(bytes < 4 << 20, "{bytes} bytes");
            largest = largest.max(bytes);
        }
    }
    // Not far below: otherwise there would be more requests than needed.
    assert!(largest > 1 << 20, "{largest} bytes");
    telemetry.0.close();
}

#[tokio::test]
async fn exports_arrive_over_mutual_tls() {
    for (protocol, name, _) in PROTOCOLS {
        let dir = tempfile::tempdir().unwrap();
        let server = mutual_tls(dir.path(), protocol);
        let mut collector = Collector::start(protocol, Some(server)).await;
        let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let endpoint = format!("https://localhost:{}", collector.address.port());
        let trusting = [
            (PROTOCOL, name.to_owned()),
            (ENDPOINT, endpoint),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", file("ca.pem")),
        ];
        let known = [
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", file("tls.crt")),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", file("tls.key")),
        ];
        let unknown = Telemetry::start(&config(&trusting)).unwrap();
        assert!(!unknown.export(Arc::default()).await.arrived, "{name}");
        assert!(!unknown.shutdown(Arc::default()).await, "{name}");
        let client = Telemetry::start(&config(&[&trusting[..], &known].concat())).unwrap();
        assert!(client.export(Arc::default()).await.arrived, "{name}");
        collector.next().await;
        assert!(client.shutdown(Arc::default()).await, "{name}");
    }
}

/// cert-manager renews a Secret like this, and the kubelet its files.
#[tokio::test]
async fn renewed_certificates_are_used_without_a_restart() {
    for (protocol, name, _) in PROTOCOLS {
        let dir = tempfile::tempdir().unwrap();
        let server = mutual_tls(dir.path(), protocol);
        let mut collector = Collector::start(protocol, Some(Arc::clone(&server))).await;
        let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let client = Telemetry::start(&config(&[
            (PROTOCOL, name.to_owned()),
            (
                ENDPOINT,
                format!("https://localhost:{}", collector.address.port()),
            ),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", file("ca.pem")),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", file("tls.crt")),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", file("tls.key")),
        ]));
        let client = client.unwrap();
        assert!(client.export(Arc::default()).await.arrived, "{name}");
        collector.next().await;

        // Half of a pair, and an empty file: the former certificates stay in use.
        let other = KeyPair::generate().unwrap().serialize_pem();
        fs::write(file("tls.key"), other).unwrap();
        fs::write(file("ca.pem"), "").unwrap();
        collector.tls.send_replace(Some(server));
        until_one_arrives(&client).await;

        // Another authority, and everything that it signs.
        let server = mutual_tls(dir.path(), protocol);
        collector.tls.send_replace(Some(server));
        until_one_arrives(&client).await;
        assert!(client.shutdown(Arc::default()).await, "{name}");
    }
}

/// Exports until one arrives: the first may meet a connection that ends.
async fn until_one_arrives(client: &Telemetry) {
    let exports = async { while !client.export(Arc::default()).await.arrived {} };
    let arrived = tokio::time::timeout(HANG, exports).await;
    arrived.expect("no export arrived");
}

#[tokio::test]
async fn logs_arrive() {
    let mut collector = Collector::start(Protocol::Http, None).await;
    let telemetry = Telemetry::start(&config(&[
        (PROTOCOL, "http/protobuf".to_owned()),
        (ENDPOINT, format!("http://{}", collector.address)),
        ("OTEL_LOGS_EXPORTER", "otlp".to_owned()),
        ("OTEL_METRICS_EXPORTER", "none".to_owned()),
    ]));
    let telemetry = telemetry.unwrap();
    let bridge = opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge::new(
        telemetry.log_provider().unwrap(),
    );
    let subscriber =
        tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), bridge);
    async { tracing::error!(target: "statlink", "event") }
        .with_subscriber(subscriber)
        .await;
    assert_eq!(collector.next().await.path, "/v1/logs");
    assert!(telemetry.shutdown(Arc::default()).await);
}

/// With nobody listening, and with a listener that never answers, an export and a shutdown both
/// end.
#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    for (_, name, _) in PROTOCOLS {
        for address in [silent.local_addr().unwrap(), closed] {
            let telemetry = Telemetry::start(&config(&[
                (PROTOCOL, name.to_owned()),
                (ENDPOINT, format!("http://{address}")),
                (TIMEOUT, "300".to_owned()),
            ]));
            let telemetry = telemetry.unwrap();
            let begun = Instant::now();
            let export = tokio::time::timeout(HANG, telemetry.export(Arc::default())).await;
            let delivery = export.unwrap_or_else(|_| panic!("{name} to {address} hangs"));
            assert!(!delivery.arrived);
            let exports = &telemetry.0.metric_exports;
            assert_eq!((exports.ok(), exports.failed()), (0, 1));
            // Metrics were still collected after the test began.
            assert!(telemetry.since_collection() <= begun.elapsed());
            let shutdown = tokio::time::timeout(HANG, telemetry.shutdown(Arc::default())).await;
            assert_eq!(shutdown, Ok(false), "{name} to {address}");
        }
    }
}

#[tokio::test]
async fn a_disabled_one_accepts_everything() {
    let disabled = config(&[("OTEL_SDK_DISABLED", "true".to_owned())]);
    let telemetry = Telemetry::start(&disabled).unwrap();
    telemetry.record_connect("autoscaler", Duration::ZERO, None);
    telemetry.record_outage("autoscaler", Duration::ZERO, Cause::Stalled);
    assert!(telemetry.export(Arc::default()).await.arrived);
    assert!(telemetry.log_provider().is_none());
    assert!(telemetry.shutdown(Arc::default()).await);
    assert_eq!(telemetry.0.metric_exports.ok(), 0);
}

/// Dropping blocks its thread until the SDK has made its last export. So that export must not
/// connect to a Collector, which may never answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dropped_without_shutdown_it_does_not_connect() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let telemetry = Telemetry::start(&config(&[
        (ENDPOINT, endpoint),
        ("OTEL_LOGS_EXPORTER", "otlp".to_owned()),
    ]));
    let telemetry = telemetry.unwrap();
    let exports = Arc::clone(&telemetry.0.metric_exports);
    drop(telemetry);
    let connected = silent.accept().now_or_never();
    assert!(connected.is_none(), "{connected:?}");
    assert_eq!((exports.ok(), exports.failed()), (0, 0));
}
