//! Tests: exported start times with a memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    sync::Arc,
};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest, metrics::v1::metric::Data,
};
use prost::Message as _;
use tokio::net::TcpListener;

use super::{ENDPOINT, PROTOCOL, PROTOCOLS, collector::Collector, config};
use crate::{
    clock,
    memory::{self, Memory},
    snapshot::{LinkSnapshot, Snapshot},
    telemetry::{Telemetry, config::Protocol},
};

/// A pod's counters are as old as the memory says, and the agent's own as old as the agent.
#[tokio::test]
async fn a_pods_counters_have_the_start_time_that_is_remembered() {
    const BEGAN: u64 = 1_700_000_000_000_000_000;
    let compressions = ["none", "gzip"];
    let cases = PROTOCOLS
        .into_iter()
        .flat_map(|it| compressions.map(|by| (it, by)));
    for ((protocol, name, path), compression) in cases {
        let mut collector = Collector::start(protocol, None).await;
        let variables = [
            (PROTOCOL, name.to_owned()),
            (ENDPOINT, format!("http://{}", collector.address)),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b".to_owned()),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", compression.to_owned()),
        ];
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::open(directory.path()).unwrap().memory;
        let of_pod = LinkSnapshot::starting("a");
        let series = of_pod.name.clone();
        memory.write_down([memory::Pod::counting_since(series, BEGAN, clock::now())]);
        let telemetry = Telemetry::start_with(&config(&variables), Some(memory)).unwrap();
        let snapshot = Arc::new(Snapshot {
            links: vec![of_pod],
            ..Snapshot::default()
        });
        assert!(telemetry.export(snapshot).await.arrived, "{name}");
        let seen = collector.next().await;
        assert_eq!(seen.path, path);
        let tenants: Vec<_> = seen.headers.get_all("x-tenant").iter().collect();
        assert_eq!(tenants, ["a b"]);
        let frame = match protocol {
            // One byte says that it is not compressed, four give its length.
            Protocol::Grpc => seen.body.slice(5..),
            Protocol::Http => seen.body,
        };
        let plain = match compression {
            "gzip" => {
                let mut plain = Vec::new();
                GzDecoder::new(&*frame).read_to_end(&mut plain).unwrap();
                plain
            }
            _ => frame.to_vec(),
        };
        let request = ExportMetricsServiceRequest::decode(&*plain).unwrap();
        let mut starts = BTreeMap::<_, BTreeSet<_>>::new();
        let scopes = request
            .resource_metrics
            .iter()
            .flat_map(|it| &it.scope_metrics);
        for metric in scopes.flat_map(|scope| &scope.metrics) {
            if let Some(Data::Sum(sum)) = &metric.data {
                let starts = starts.entry(metric.name.as_str()).or_default();
                starts.extend(sum.data_points.iter().map(|it| it.start_time_unix_nano));
            }
        }
        let pods = starts.remove("kn.activator.stats.conn.errors").unwrap();
        assert_eq!(pods, BTreeSet::from([BEGAN]), "{name}");
        let agents = starts.remove("statlink.exports").unwrap();
        assert!(!agents.contains(&BEGAN), "{name}");
        assert!(telemetry.shutdown(Arc::default()).await, "{name}");
    }
}

#[tokio::test]
async fn an_export_with_remembered_start_times_fails_where_nobody_listens() {
    let directory = tempfile::tempdir().unwrap();
    for (_, name, _) in PROTOCOLS {
        let memory = Memory::open(directory.path()).unwrap().memory;
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", nobody.local_addr().unwrap());
        drop(nobody);
        let variables = [(PROTOCOL, name.to_owned()), (ENDPOINT, endpoint)];
        let telemetry = Telemetry::start_with(&config(&variables), Some(memory)).unwrap();
        assert!(!telemetry.export(Arc::default()).await.arrived, "{name}");
        assert_eq!(telemetry.0.metric_exports.failed(), 1, "{name}");
    }
}
