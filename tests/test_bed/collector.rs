//! The Collector, fed by hand.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Stdio,
};

use statlink_tests::{
    collector::{Certificates, Collector, Value},
    netns::{self, Network},
};
use tempfile::TempDir;

use crate::SOON;

const METRIC: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name",
"value":{"stringValue":"statlink"}}]},"scopeMetrics":[{"scope":{"name":"s"},"metrics":[{"name":"g",
"unit":"s","gauge":{"dataPoints":[{"timeUnixNano":"1000000000","asDouble":0.25,"attributes":[
{"key":"peer","value":{"stringValue":"autoscaler"}}]}]}}]}]}]}"#;

const LOG: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1000000000",
"severityText":"ERROR","body":{"stringValue":"it is not reachable"}}]}]}]}"#;

/// A POST of OTLP in JSON.
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
fn exports_are_read_back_and_survive_a_restart() {
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

#[test]
fn a_tls_client_trusts_the_server_and_needs_a_certificate() {
    let directory = TempDir::new().unwrap();
    let made = Certificates::make(directory.path()).unwrap();
    let network = Network::new().unwrap();
    let collector = Collector::start(Some(network.node()), Some(&made.tls(true))).unwrap();
    let address = collector.grpc_endpoint();
    let address = address.strip_prefix("https://").unwrap();
    let connect = |more: &[&Path]| {
        let mut openssl = network.node().command("openssl");
        openssl
            .args([
                "s_client",
                "-verify_return_error",
                "-verify_hostname",
                "localhost",
            ])
            .args(["-tls1_2", "-connect", address, "-CAfile"])
            .arg(&made.ca)
            .args(more)
            .stdin(Stdio::null());
        netns::run(&mut openssl)
    };
    let (cert, key) = (Path::new("-cert"), Path::new("-key"));
    connect(&[cert, &made.client, key, &made.client_key]).unwrap();
    connect(&[]).unwrap_err();
}
