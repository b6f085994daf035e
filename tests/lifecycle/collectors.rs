//! Collectors that are absent, silent, refusing, or reached by each protocol.

use std::{ffi::OsString, fs, time::Duration};

use statlink_tests::{
    agent,
    collector::{Certificates, Collector},
    peer::{Traffic, bad_server},
    process::Line,
    scenario::{Bed, link, metric},
    wait,
};

use crate::{PATIENCE, options};

/// How often the agent has logged that exports fail, and that they work again.
fn export_messages(bed: &Bed) -> (usize, usize) {
    let lines = bed.agent.as_ref().unwrap().process.lines();
    let count = |text: &str| {
        let of = |line: &&Line| {
            line.get("message")
                .as_str()
                .unwrap_or_default()
                .contains(text)
        };
        lines.iter().filter(of).count()
    };
    (
        count("Exports to the Collector fail"),
        count("Exports to the Collector work again"),
    )
}

/// Waits for these numbers of messages.
#[track_caller]
fn wait_messages(bed: &Bed, wanted: (usize, usize)) {
    let logged = || Ok((export_messages(bed) == wanted).then_some(()));
    let waited = wait::until("message about exports", PATIENCE, logged);
    let logged = export_messages(bed);
    assert!(waited.is_ok(), "{waited:?}: {logged:?}, not {wanted:?}");
}

fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_happened_while_it_was_absent_is_complete_when_it_is_back() {
    let mut bed = Bed::new().unwrap();
    bed.collector.stop().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let mut events = bed.agent.as_ref().unwrap().events().unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    events.wait_event("reachable", PATIENCE).unwrap();
    let pid = bed.agent.as_ref().unwrap().process.pid();
    wait_messages(&bed, (1, 0));
    let before = resident_kb(pid);
    for outage in 1..=2 {
        for _ in 0..3 {
            let mark = events.mark();
            bed.faults(&activator).reset_established().unwrap();
            let back = |line: &Line| line.event() == Some("reachable");
            events
                .wait_for_after(mark, "recovery", PATIENCE, back)
                .unwrap();
        }
        wait_messages(&bed, (outage, outage - 1));
        let grown = resident_kb(pid).saturating_sub(before);
        assert!(grown < 8 * 1024, "{grown} kB more without the Collector");
        bed.collector.restart().unwrap();
        let losses = [
            ("kn.check.kind", "disconnect"),
            ("error.type", "connection_reset"),
        ];
        let of_link = [&link(&activator.pod)[..], &losses].concat();
        let expected = 3.0 * f64::from(u32::try_from(outage).unwrap());
        bed.collector
            .wait_for(metric::ERRORS, &of_link, PATIENCE, |point| {
                point.value.number() == expected
            })
            .unwrap();
        wait_messages(&bed, (outage, outage));
        bed.collector.stop().unwrap();
    }
    bed.collector.restart().unwrap();
    bed.check_invariants().unwrap();
}

#[test]
fn one_that_never_answers_or_refuses_delays_nothing() {
    let mut bed = Bed::new().unwrap();
    let pod = bed.network.pod("collector").unwrap();
    let _mute = bad_server(&pod, ["mute", "0.0.0.0:4317"]).unwrap();
    let _forbid = bad_server(&pod, ["forbid", "0.0.0.0:4318"]).unwrap();
    for (port, protocol) in [(4317, "grpc"), (4318, "http/protobuf"), (4319, "grpc")] {
        let mut options = options(&bed);
        options.endpoint = Some(format!("http://{}:{port}", pod.v4));
        let options = options.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        bed.start_agent_with(&options).unwrap();
        let mut events = bed.agent.as_ref().unwrap().events().unwrap();
        let mut activator = bed.activator(&format!("a{port}"), Traffic::Idle).unwrap();
        events.wait_event("reachable", PATIENCE).unwrap();
        bed.faults(&activator).reset_established().unwrap();
        let lost = events.wait_event("unreachable", PATIENCE).unwrap();
        let (at, known) = (lost.get("at").as_f64(), lost.get("known_at").as_f64());
        // An agent that waited for the export would have known only after it.
        let waited = known.unwrap() - at.unwrap();
        assert!(waited < EXPORT_TIMEOUT.as_secs_f64(), "{}", lost.text);
        // Two liveness checks, 5 s apart, take as long as an export with its retries.
        let checks = || {
            let links = bed.agent.as_ref().unwrap().activators();
            links.map(|links| links[0]["checks"].as_u64().unwrap())
        };
        let enough = checks().unwrap() + 2;
        wait::until("two more checks", PATIENCE, || {
            Ok((checks()? >= enough).then_some(()))
        })
        .unwrap();
        assert_eq!(export_messages(&bed), (1, 0), "{protocol} to {port}");
        let stopped = bed.agent.take().unwrap().process.terminate(PATIENCE);
        assert_eq!(stopped.unwrap().code(), Some(0), "{protocol} to {port}");
        activator.process.kill().unwrap();
    }
}

#[test]
fn each_protocol_arrives_with_and_without_tls() {
    let directory = tempfile::tempdir().unwrap();
    let files = Certificates::make(directory.path()).unwrap();
    let mut bed = Bed::new().unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    for (protocol, secured, compression) in [
        ("grpc", false, "gzip"),
        ("http/protobuf", false, "gzip"),
        ("grpc", true, "none"),
        ("http/protobuf", true, "none"),
    ] {
        let what = format!("{protocol}, TLS: {secured}");
        let tls = secured.then(|| files.tls(true));
        bed.collector = Collector::start(Some(bed.network.node()), tls.as_ref()).unwrap();
        let mut options = options(&bed);
        options.endpoint = Some(if protocol == "grpc" {
            bed.collector.grpc_endpoint()
        } else {
            bed.collector.http_endpoint()
        });
        let mut env: Vec<(&str, OsString)> = vec![
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.into()),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", compression.into()),
        ];
        if secured {
            env.extend([
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", files.ca.clone().into()),
                (
                    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                    files.client.clone().into(),
                ),
                (
                    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
                    files.client_key.clone().into(),
                ),
            ]);
        }
        for (name, value) in env {
            options = options.env(name, value);
        }
        bed.start_agent_with(&options).unwrap();
        bed.wait_reachable(&activator, 1, PATIENCE)
            .unwrap_or_else(|e| panic!("{what}: {e:#}"));
        let point = bed
            .collector
            .latest(metric::REACHABLE, &link(&activator.pod));
        let resource = point.unwrap().resource;
        assert_eq!(
            resource.get("service.name").map(String::as_str),
            Some("statlink")
        );
        assert!(resource.contains_key("service.instance.id"), "{resource:?}");
        if secured {
            client_without_certificate_is_refused(&bed, &files);
        }
        bed.agent = None;
    }
}

/// `statlink check` says that the Collector refuses a client without a certificate.
fn client_without_certificate_is_refused(bed: &Bed, files: &Certificates) {
    let mut command = agent::command(Some(bed.network.node())).unwrap();
    command
        .args(["check", "--json", "--socket", "/nonexistent/statlink.sock"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", bed.collector.grpc_endpoint())
        .env("OTEL_EXPORTER_OTLP_CERTIFICATE", &files.ca);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let findings = document.pointer("/findings").unwrap().as_array();
    let mut findings = findings.unwrap().iter();
    let collector = findings.find(|f| f.pointer("/subject").unwrap() == "Collector (metrics)");
    let verdict = collector.unwrap().pointer("/verdict").unwrap();
    assert_eq!(verdict, "failed", "{text}");
}

#[test]
fn logs_are_exported_on_request() {
    let mut bed = Bed::new().unwrap();
    let options = options(&bed).arg("--otlp-logs");
    bed.start_agent_with(&options).unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    bed.faults(&activator).reset_established().unwrap();
    let (_, lost) = bed
        .collector
        .wait_for_log("outage", PATIENCE, |log| {
            log.body == "Autoscaler is not reachable from activator."
        })
        .unwrap();
    assert_eq!(lost.severity, "ERROR");
    assert_eq!(lost.event, "statlink.link.unreachable");
    let attribute = |key: &str| lost.attributes.get(key).cloned().unwrap_or_default();
    assert_eq!(attribute("error.type"), "connection_reset");
    assert_eq!(attribute("k8s.pod.name"), activator.pod.name);
    bed.wait_error(&activator, "disconnect", "connection_reset", PATIENCE)
        .unwrap();
}

/// How long an export may take before it has failed.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);
