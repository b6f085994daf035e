//! Tests: refused values, and the line that an operator sees for each.

use super::*;

/// To be proofread: each line is what an operator sees.
#[test]
fn every_bad_value_has_one_line() {
    const FORM: &str = "expected http://host:port or https://host:port";
    let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
    for (name, value, expected) in [
        (
            endpoint,
            "collector:4317",
            &*format!("{endpoint}=collector:4317: {FORM}"),
        ),
        (
            endpoint,
            "ftp://c:1",
            &*format!("{endpoint}=ftp://c:1: {FORM}"),
        ),
        (
            endpoint,
            "http://c:port",
            &*format!("{endpoint}=http://c:port: {FORM}"),
        ),
        (
            endpoint,
            "http://u:secret@c:1",
            &*format!("{endpoint}: an endpoint carries no user or password; {FORM}"),
        ),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "http/json",
            "OTEL_EXPORTER_OTLP_PROTOCOL=http/json: expected grpc or http/protobuf",
        ),
        (
            "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
            "zstd",
            "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION=zstd: expected gzip or none",
        ),
        (
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "10s",
            "OTEL_EXPORTER_OTLP_TIMEOUT=10s: expected milliseconds from 1 to 3600000",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=1,secret",
            "OTEL_EXPORTER_OTLP_HEADERS: entry 2 is not a pair; expected name=value,name=value with percent-encoded values",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "key=secret%0A",
            "OTEL_EXPORTER_OTLP_HEADERS: the value of key is not valid; expected name=value,name=value with percent-encoded values",
        ),
        (
            "OTEL_METRIC_EXPORT_INTERVAL",
            "10",
            "OTEL_METRIC_EXPORT_INTERVAL=10: expected milliseconds from 200 to 3600000",
        ),
        (
            "OTEL_METRIC_EXPORT_TIMEOUT",
            "0",
            "OTEL_METRIC_EXPORT_TIMEOUT=0: expected milliseconds from 1 to 3600000",
        ),
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "delta",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta: expected cumulative",
        ),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "base2_exponential_bucket_histogram",
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram: expected explicit_bucket_histogram",
        ),
        (
            "OTEL_SDK_DISABLED",
            "1",
            "OTEL_SDK_DISABLED=1: expected true or false",
        ),
        (
            "OTEL_METRICS_EXPORTER",
            "prometheus",
            "OTEL_METRICS_EXPORTER=prometheus: expected otlp or none",
        ),
        (
            "OTEL_METRICS_EXPORTER",
            "otlp,prometheus",
            "OTEL_METRICS_EXPORTER=otlp,prometheus: expected otlp or none; prometheus is not supported",
        ),
        (
            endpoint,
            "http://$(NODE_IP):4317",
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://$(NODE_IP):4317: a reference to a variable was not expanded; Kubernetes expands $(NAME) only if NAME stands before this variable in the container's env",
        ),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "k8s.cluster.name=$(CLUSTER)",
            "OTEL_RESOURCE_ATTRIBUTES=k8s.cluster.name=$(CLUSTER): a reference to a variable was not expanded; Kubernetes expands $(NAME) only if NAME stands before this variable in the container's env",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer $(TOKEN)",
            "OTEL_EXPORTER_OTLP_HEADERS: a reference to a variable was not expanded; expected name=value,name=value with percent-encoded values",
        ),
        (
            endpoint,
            "http://fd00:10:244::5:4317",
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://fd00:10:244::5:4317: expected brackets around an IPv6 address, as in http://[fd00::1]:4317",
        ),
        (
            endpoint,
            "fd00:10:244::5",
            "OTEL_EXPORTER_OTLP_ENDPOINT=fd00:10:244::5: expected brackets around an IPv6 address, as in http://[fd00::1]:4317",
        ),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "team",
            "OTEL_RESOURCE_ATTRIBUTES=team: expected key=value,key=value with percent-encoded values",
        ),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "k8s.pod.name=statlink-x",
            "OTEL_RESOURCE_ATTRIBUTES: k8s.pod.name names the agent's own pod, and a Collector may put it in the place of the activator's; leave it out",
        ),
    ] {
        assert_eq!(errors(&[(name, value)]), [expected]);
    }
}

#[test]
fn all_errors_are_reported_and_a_shared_one_once() {
    let errors = errors(&[
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "x"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "x"),
    ]);
    assert_eq!(errors.len(), 2, "{errors:?}");
}

#[test]
fn bad_certificates_are_named() {
    const CA: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
    const CLIENT: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
    let https = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:1");
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();
    for (variables, expected) in [
        (
            &[https, (CA, "/nowhere/ca.pem")][..],
            format!("{CA}=/nowhere/ca.pem: cannot be read: No such file or directory (os error 2)"),
        ),
        (
            &[https, (CA, empty)],
            format!("{CA}={empty}: expected one or more certificates in PEM form"),
        ),
    ] {
        assert_eq!(errors(variables), [expected]);
    }
    // For plain http none of them is read.
    assert!(read(&[(CA, "/nowhere/ca.pem"), (CLIENT, "/nowhere/tls.crt")]).is_ok());
}

#[test]
fn a_client_needs_a_certificate_and_its_own_key() {
    const CLIENT: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
    const KEY: &str = "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY";
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let own = rcgen::generate_simple_self_signed(["statlink".to_owned()]).unwrap();
    let certificate = write("tls.crt", own.cert.pem());
    let key = write("tls.key", own.signing_key.serialize_pem());
    let other = write(
        "other.key",
        rcgen::KeyPair::generate().unwrap().serialize_pem(),
    );
    let with = |more: &[(&'static str, &str)]| {
        let https = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:1");
        let mut variables = vec![https, ("OTEL_EXPORTER_OTLP_CERTIFICATE", &*certificate)];
        variables.extend(more);
        read(&variables).map_err(|errors| errors.to_string())
    };
    const BOTH: &str = "a client needs both its certificate and its key";
    assert!(with(&[(CLIENT, &certificate), (KEY, &key)]).is_ok());
    assert_eq!(
        with(&[(CLIENT, &certificate)]).unwrap_err(),
        format!("{CLIENT} is set without OTEL_EXPORTER_OTLP_CLIENT_KEY: {BOTH}")
    );
    assert_eq!(
        with(&[(KEY, &key)]).unwrap_err(),
        format!("{KEY} is set without OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE: {BOTH}")
    );
    assert_eq!(
        with(&[(CLIENT, &certificate), (KEY, &certificate)]).unwrap_err(),
        format!("{KEY}={certificate}: expected a private key in PEM form")
    );
    let mismatch = with(&[(CLIENT, &certificate), (KEY, &other)]).unwrap_err();
    assert!(
        mismatch.starts_with(&format!("{CLIENT}={certificate}: ")),
        "{mismatch}"
    );
}
