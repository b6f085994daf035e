//! The command line as a person or a manifest uses it. Nothing here needs root: errors in the
//! arguments are found before the kernel is touched.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

use std::{
    fs,
    process::{Command, Output},
};

fn statlink(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_statlink"));
    for (name, _) in std::env::vars() {
        if name.starts_with("STATLINK_") || name.starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    let environment = environment.iter().copied();
    command.args(arguments).envs(environment).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// Exit code 2, nothing on standard output, and these lines on standard error.
#[track_caller]
fn assert_refused(arguments: &[&str], environment: &[(&str, &str)], lines: &[&str]) {
    let output = statlink(arguments, environment);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    let errors: Vec<_> = stderr.lines().collect();
    assert_eq!(errors.len(), lines.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(lines) {
        assert!(error.starts_with(&format!("error: {expected}")), "{error}");
    }
}

#[test]
fn every_bad_flag_is_named_with_the_accepted_form() {
    for (flag, value, accepted) in BAD {
        for command in ["run", "check"] {
            let line = format!("--{flag}={value}: {accepted}");
            assert_refused(&[command, &format!("--{flag}"), value], &[], &[&line]);
            assert_refused(&[command, &format!("--{flag}={value}")], &[], &[&line]);
        }
    }
}

#[test]
fn every_bad_variable_is_named_with_the_accepted_form() {
    for (flag, value, accepted) in BAD {
        let variable = format!("STATLINK_{}", flag.replace('-', "_").to_uppercase());
        let line = format!("{variable}={value}: {accepted}");
        assert_refused(&["run"], &[(&variable, value)], &[&line]);
    }
    let line = "STATLINK_OTLP_LOGS=maybe: expected true or false";
    assert_refused(&["run"], &[("STATLINK_OTLP_LOGS", "maybe")], &[line]);
}

const BAD: &[(&str, &str, &str)] = &[
    ("peer-port", "http", "expected a port, 1 to 65535"),
    ("peer-port", "0", "expected a port, 1 to 65535"),
    ("peer-port", "65536", "expected a port, 1 to 65535"),
    // What Kubernetes sets in pods beside a Service named `statlink-peer`.
    (
        "peer-port",
        "tcp://10.0.0.1:80",
        "expected a port, 1 to 65535",
    ),
    ("peer", " ", "expected a name that is not empty"),
    (
        "node-name",
        "$(NODE_NAME)",
        "a reference to a variable was not expanded; expected the name, or a reference to a variable \
         that stands before this one in the container's env",
    ),
    (
        "cluster-name",
        "eu-$(CLUSTER)",
        "a reference to a variable was not expanded; expected the name, or a reference to a variable \
         that stands before this one in the container's env",
    ),
    (
        "process-name",
        "sixteen-bytes-it",
        "expected the name in /proc/PID/comm, 1 to 15 bytes long",
    ),
    (
        "pod-name-env",
        "A=B",
        "expected the name of an environment variable",
    ),
    (
        "namespace-env",
        "=",
        "expected the name of an environment variable",
    ),
    (
        "export-interval",
        "10",
        "expected a duration from 200ms to 1h",
    ),
    (
        "export-interval",
        "100ms",
        "expected a duration from 200ms to 1h",
    ),
    (
        "export-interval",
        "2h",
        "expected a duration from 200ms to 1h",
    ),
    (
        "health-address",
        "8082",
        "expected an IP address and a port",
    ),
    (
        "health-address",
        "localhost:8082",
        "expected an IP address and a port",
    ),
    (
        "metrics-address",
        ":9464",
        "expected an IP address and a port",
    ),
    ("log", "a=b=c", "log filter \"a=b=c\""),
    ("log-format", "xml", "expected json or text"),
    (
        "otlp-endpoint",
        "collector",
        "expected http://host:port or https://host:port",
    ),
    (
        "otlp-endpoint",
        "ftp://collector:4317",
        "expected http://host:port or https://host:port",
    ),
];

#[test]
fn every_bad_opentelemetry_variable_is_reported_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.pem");
    let empty = directory.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let (missing, empty) = (missing.to_str().unwrap(), empty.to_str().unwrap());
    for (environment, lines) in [
        (
            &[
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "thrift"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
                ("OTEL_METRIC_EXPORT_INTERVAL", "1"),
            ][..],
            &[
                "OTEL_EXPORTER_OTLP_PROTOCOL=thrift: expected grpc or http/protobuf".to_owned(),
                "OTEL_EXPORTER_OTLP_TIMEOUT=10s: expected milliseconds from 1 to 3600000"
                    .to_owned(),
                "OTEL_METRIC_EXPORT_INTERVAL=1: expected milliseconds from 200".to_owned(),
            ][..],
        ),
        (
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", missing),
            ],
            &[format!(
                "OTEL_EXPORTER_OTLP_CERTIFICATE={missing}: cannot be read: No such file"
            )],
        ),
        (
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", empty),
            ],
            &[format!("OTEL_EXPORTER_OTLP_CERTIFICATE={empty}: expected")],
        ),
        (
            &[("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=statlink-x")],
            &["OTEL_RESOURCE_ATTRIBUTES: k8s.pod.name names the agent's own pod".to_owned()],
        ),
        (
            &[("OTEL_METRICS_EXPORTER", "prometheus")],
            &["OTEL_METRICS_EXPORTER=prometheus: expected otlp or none".to_owned()],
        ),
    ] {
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        assert_refused(&["run"], environment, &lines);
    }
}

#[test]
fn secrets_are_not_printed() {
    for environment in [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization: hunter2"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://me:hunter2@collector:4317",
        ),
    ] {
        let output = statlink(&["run"], &[environment]);
        assert_eq!(output.status.code(), Some(2));
        let stderr = text(&output.stderr);
        assert!(stderr.contains(environment.0), "{stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

#[test]
fn a_variable_set_to_nothing_is_not_set() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let arguments = ["status", "--socket", socket.to_str().unwrap()];
    let output = statlink(&arguments, &[("STATLINK_SOCKET", "")]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // The empty variable is accepted; the error is about the other one.
    let environment = [("STATLINK_PEER_PORT", ""), ("STATLINK_LOG_FORMAT", "xml")];
    let line = "STATLINK_LOG_FORMAT=xml: expected json or text";
    assert_refused(&["run"], &environment, &[line]);
}

#[test]
fn without_an_agent_status_and_events_name_the_socket() {
    for command in ["status", "events"] {
        let output = statlink(&[command, "--socket", "/nonexistent/statlink.sock"], &[]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let stderr = text(&output.stderr);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("/nonexistent/statlink.sock"), "{stderr}");
        assert!(stderr.contains("statlink run"), "{stderr}");
    }
}

#[test]
fn help_teaches() {
    let help = statlink(&["--help"], &[]);
    for word in ["run", "check", "status", "events", "Exit codes:"] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
    let help = statlink(&["run", "--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    let help = text(&help.stdout);
    for (flag, ..) in BAD {
        let variable = format!("STATLINK_{}", flag.replace('-', "_").to_uppercase());
        assert!(help.contains(&format!("--{flag} ")), "{flag}");
        assert!(help.contains(&variable), "{variable}");
    }
    for word in ["OTEL_EXPORTER_OTLP_ENDPOINT", "Exit codes:", "Examples:"] {
        assert!(help.contains(word), "{word}");
    }
    for command in ["check", "status", "events", "completions", "man"] {
        let help = statlink(&[command, "--help"], &[]);
        assert_eq!(help.status.code(), Some(0), "{command}");
        assert!(text(&help.stdout).lines().count() > 8, "{command}");
    }
    let version = statlink(&["--version"], &[]);
    let expected = concat!("statlink ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(text(&version.stdout), expected);
}

#[test]
fn completions_and_manual_pages_are_generated() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = statlink(&["completions", shell], &[]);
        assert!(text(&script.stdout).contains("statlink"), "{shell}");
    }
    let page = statlink(&["man"], &[]);
    assert!(text(&page.stdout).contains(".TH statlink 1"));
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    let output = statlink(&["man", "--output", pages.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for command in ["", "-run", "-check", "-status", "-events"] {
        let page = pages.join(format!("statlink{command}.1"));
        assert!(page.is_file(), "{}", page.display());
    }
}
