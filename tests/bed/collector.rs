//! The Collector, fed by hand.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use statlink_tests::{
    collector::{Collector, Value},
    netns::Network,
};

use crate::SOON;

const METRIC: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name",
"value":{"stringValue":"statlink"}}]},"scopeMetrics":[{"scope":{"name":"s"},"metrics":[{"name":"g",
"unit":"s","gauge":{"dataPoints":[{"timeUnixNano":"1000000000","asDouble":0.25,"attributes":[
{"key":"peer","value":{"stringValue":"autoscaler"}}]}]}}]}]}]}"#;

const LOG: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1000000000",
"severityText":"ERROR","body":{"stringValue":"it is not reachable"}}]}]}]}"#;

/// A POST in OTLP's JSON, which every Collector takes.
fn post(network: &Network, collector: &Collector, path: &str, body: &str) {
    let endpoint = collector.http_endpoint();
    let address = endpoint.strip_prefix("http://").unwrap();
    let answer = network
        .node()
        .run(|| {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(
                stream,
                "POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn what_is_sent_is_read_back_and_outlives_a_restart() {
    let network = Network::new().unwrap();
    let mut collector = Collector::start(Some(network.node()), None).unwrap();
    post(&network, &collector, "/v1/metrics", METRIC);
    post(&network, &collector, "/v1/logs", LOG);

    let of = [("peer", "autoscaler")];
    let (_, point) = collector.wait_for("g", &of, SOON, |_| true).unwrap();
    assert_eq!(point.value, Value::Gauge(0.25));
    assert_eq!(point.unit, "s");
    let reachable = |log: &statlink_tests::collector::LogRecord| log.body.contains("reachable");
    let (_, log) = collector.wait_for_log("log", SOON, reachable).unwrap();
    assert_eq!(log.severity, "ERROR");

    collector.stop().unwrap();
    collector.restart().unwrap();
    let mark = collector.mark();
    post(&network, &collector, "/v1/metrics", METRIC);
    collector
        .wait_for_after(mark, "g", &of, SOON, |_| true)
        .unwrap();
    assert_eq!(collector.exports().len(), 3);
    assert!(collector.latest("g", &[("peer", "other")]).is_none());
}
