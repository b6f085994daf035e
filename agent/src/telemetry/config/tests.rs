//! Tests: what each variable accepts.

mod errors;

use std::{collections::HashMap, fs};

use super::{
    limits::{DEFAULT_TIMEOUT, MAX_TIMEOUT},
    *,
};

/// Reads `variables` without any flag.
fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    read_with(variables, &Overrides::default())
}

fn read_with(variables: &[(&str, &str)], flags: &Overrides) -> Result<Config, ConfigErrors> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    let lookup = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    Config::read(&lookup, flags)
}

#[track_caller]
fn metrics(variables: &[(&str, &str)]) -> Destination {
    read(variables).unwrap().metrics.unwrap()
}

#[track_caller]
fn errors(variables: &[(&str, &str)]) -> Vec<String> {
    let errors = read(variables).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults() {
    let config = read(&[]).unwrap();
    let metrics = config.metrics.unwrap();
    assert_eq!(metrics.endpoint, "http://localhost:4317/");
    assert_eq!(metrics.protocol, Protocol::Grpc);
    assert_eq!(metrics.timeout, Duration::from_secs(3));
    assert!(metrics.gzip);
    assert!(metrics.headers.is_empty());
    assert!(config.logs.is_none());
    assert_eq!(config.interval, Duration::from_secs(10));
    assert_eq!(config.resource["service.name"], "statlink");
}

#[test]
fn endpoints() {
    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const OWN: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
    const PROTOCOL: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
    for (variables, expected) in [
        (&[(BASE, "http://c:1")][..], "http://c:1/"),
        (&[(BASE, "http://c:1"), (OWN, "http://d:2")], "http://d:2/"),
        (&[(BASE, "c:1"), insecure], "http://c:1/"),
        (&[(BASE, "http://[fd00::1]:4317")], "http://[fd00::1]:4317/"),
        (
            &[(BASE, "http://collector:4317/")],
            "http://collector:4317/",
        ),
        (&[PROTOCOL], "http://localhost:4318/v1/metrics"),
        (&[PROTOCOL, (BASE, "http://c:1")], "http://c:1/v1/metrics"),
        (
            &[PROTOCOL, (BASE, "http://c:1/otel/")],
            "http://c:1/otel/v1/metrics",
        ),
        (&[PROTOCOL, (OWN, "http://c:1/x")], "http://c:1/x"),
        (
            &[PROTOCOL, (BASE, "  "), (OWN, "")],
            "http://localhost:4318/v1/metrics",
        ),
    ] {
        let endpoint = metrics(variables).endpoint.to_string();
        assert_eq!(endpoint, expected, "{variables:?}");
    }
}

#[test]
fn a_signal_s_own_form_takes_precedence() {
    let metrics = metrics(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "1000"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "b=2"),
    ]);
    assert_eq!(metrics.protocol, Protocol::Grpc);
    assert!(metrics.gzip);
    assert_eq!(metrics.timeout, Duration::from_secs(1));
    let names: Vec<_> = metrics
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn headers_are_decoded_and_not_shown() {
    let value = "Authorization=Bearer%20a%2Cb%3D, x-scope-orgid = tenant ,";
    let metrics = metrics(&[("OTEL_EXPORTER_OTLP_HEADERS", value)]);
    let headers: Vec<_> = metrics
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.to_str().unwrap()))
        .collect();
    assert_eq!(
        headers,
        [
            ("authorization", "Bearer a,b="),
            ("x-scope-orgid", "tenant")
        ]
    );
    assert!(!format!("{metrics:?}").contains("Bearer"));
}

#[test]
fn flags_take_precedence_over_variables() {
    let flags = Overrides {
        endpoint: Some(Var {
            name: "--otlp-endpoint".to_owned(),
            value: "http://flag:1".to_owned(),
        }),
        interval: Some(Duration::from_secs(5)),
        logs: true,
        node_name: Some("node-1".to_owned()),
        cluster_name: Some("blue".to_owned()),
        service_version: "1.2.3".to_owned(),
        ..Overrides::default()
    };
    let config = read_with(
        &[
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://own:1"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "60000"),
            ("OTEL_LOGS_EXPORTER", "none"),
            ("OTEL_RESOURCE_ATTRIBUTES", "k8s.node.name=other,team=a%20b"),
        ],
        &flags,
    );
    let config = config.unwrap();
    assert_eq!(config.metrics.unwrap().endpoint, "http://flag:1/");
    assert_eq!(config.logs.unwrap().endpoint, "http://flag:1/v1/logs");
    assert_eq!(config.interval, Duration::from_secs(5));
    let resource: Vec<_> = config
        .resource
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        resource,
        [
            ("k8s.cluster.name", "blue"),
            ("k8s.node.name", "node-1"),
            ("service.instance.id", "blue/node-1"),
            ("service.name", "statlink"),
            ("service.version", "1.2.3"),
            ("team", "a b"),
        ]
    );
}

#[test]
fn the_instance_id_is_the_attribute_the_node_or_the_host() {
    let flags = |node: Option<&str>| Overrides {
        node_name: node.map(str::to_owned),
        hostname: Some("host".to_owned()),
        ..Overrides::default()
    };
    let attribute = ("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=uid");
    for (variables, flags, expected) in [
        (&[attribute][..], flags(Some("node")), "uid"),
        (&[], flags(Some("node")), "node"),
        (
            &[("OTEL_RESOURCE_ATTRIBUTES", "k8s.node.name=n")],
            flags(None),
            "n",
        ),
        (
            &[("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=c")],
            flags(Some("node")),
            "c/node",
        ),
        (&[], flags(None), "host"),
    ] {
        let resource = read_with(variables, &flags).unwrap().resource;
        assert_eq!(resource["service.instance.id"], expected);
    }
}

#[test]
fn signals_can_be_switched_off() {
    assert!(
        read(&[("OTEL_METRICS_EXPORTER", "none")])
            .unwrap()
            .metrics
            .is_none()
    );
    assert!(
        read(&[("OTEL_LOGS_EXPORTER", "otlp")])
            .unwrap()
            .logs
            .is_some()
    );
    let disabled = read(&[
        ("OTEL_SDK_DISABLED", "TRUE"),
        ("OTEL_LOGS_EXPORTER", "otlp"),
    ])
    .unwrap();
    assert!(disabled.metrics.is_none() && disabled.logs.is_none());
}

#[test]
fn a_longer_timeout_than_a_shutdown_has_is_shortened_with_one_warning() {
    let long = ("OTEL_EXPORTER_OTLP_TIMEOUT", "10000");
    let config = read(&[long, ("OTEL_LOGS_EXPORTER", "otlp")]).unwrap();
    assert_eq!(config.metrics.unwrap().timeout, MAX_TIMEOUT);
    assert_eq!(config.logs.unwrap().timeout, MAX_TIMEOUT);
    let warnings: Vec<_> = config.warnings.into_iter().collect();
    assert_eq!(
        warnings,
        [
            "OTEL_EXPORTER_OTLP_TIMEOUT=10000: 4000 ms is used, so that the last export fits into a shutdown"
        ]
    );
    let short = read(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "15")]).unwrap();
    assert_eq!(short.metrics.unwrap().timeout, Duration::from_millis(15));
    assert!(short.warnings.is_empty());
}

#[test]
fn padding_and_bars_stay_in_the_value_of_a_header() {
    for (value, expected) in [
        (
            "authorization=Basic dXNlcjpwYXNzd29yZA==",
            &[("authorization", "Basic dXNlcjpwYXNzd29yZA==")][..],
        ),
        (
            "Authorization=Basic%20dXNlcjpwYXNz,X-Scope-OrgID=tenant1|tenant2",
            &[
                ("authorization", "Basic dXNlcjpwYXNz"),
                ("x-scope-orgid", "tenant1|tenant2"),
            ],
        ),
    ] {
        let headers = metrics(&[("OTEL_EXPORTER_OTLP_HEADERS", value)]).headers;
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(headers, expected);
    }
}

#[test]
fn the_shorter_timeout_applies() {
    let bound = [("OTEL_METRIC_EXPORT_TIMEOUT", "500")];
    assert_eq!(metrics(&bound).timeout, Duration::from_millis(500));
    let bound = [("OTEL_METRIC_EXPORT_TIMEOUT", "30000")];
    assert_eq!(metrics(&bound).timeout, DEFAULT_TIMEOUT);
}
