//! Tests: each entry on standard output, and which entries reach OTLP.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    time::{Duration, UNIX_EPOCH},
};

use opentelemetry_sdk::logs::InMemoryLogExporter;
use serde_json::{Value, json};

use super::{
    capture::{Capture, on_this_thread},
    flap_filter::{FlapSummary, LogEntry},
    *,
};
use crate::{
    clock::WallTime,
    link::Cause,
    link_event::{EndedOutage, EventKind, FailedAttempt, LinkName},
};

/// EventKind is logged under `filter` while `act` runs.
fn logged(filter: &str, act: impl FnOnce()) -> Vec<Value> {
    let logged = Capture::new(filter);
    act();
    logged.lines()
}

fn log_event(event: EventKind) {
    log_entry(&LogEntry::Event(event));
}

fn log_entry(entry: &LogEntry) {
    let link = LinkName {
        peer: "autoscaler".to_owned(),
        namespace: "knative-serving".to_owned(),
        pod: "activator-1".to_owned(),
        pid: 4711,
    };
    log(&link, entry);
}

fn to() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 8080))
}

fn attempt(cause: Cause) -> FailedAttempt {
    FailedAttempt {
        at: WallTime(UNIX_EPOCH),
        peer_address: Some(to()),
        cause,
        proxy_address: None,
        errno: Some(111),
        duration: Some(Duration::from_micros(1_200)),
    }
}

fn unreachable() -> EventKind {
    EventKind::Unreachable {
        cause: Cause::ConnectionRefused,
        peer_address: Some(to()),
        proxy_address: None,
        attempts: vec![attempt(Cause::ConnectionRefused), attempt(Cause::Timeout)],
    }
}

#[test]
fn an_outage_is_one_error_line() {
    let mut events = logged("", || log_event(unreachable()));
    assert_eq!(events.len(), 1);
    let time = events[0]
        .as_object_mut()
        .unwrap()
        .remove("timestamp")
        .unwrap();
    assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    assert_eq!(
        events[0],
        json!({
            "level": "ERROR",
            "target": "statlink",
            "message": "Autoscaler is not reachable from activator.",
            "peer": "autoscaler",
            "k8s.namespace.name": "knative-serving",
            "k8s.pod.name": "activator-1",
            "process.pid": 4711,
            "runbook": "https://github.com/statlink/statlink/blob/main/deploy/runbooks/causes.md#connection_refused",
            "error.type": "connection_refused",
            "network.peer.address": "10.0.0.1",
            "network.peer.port": 8080,
            "attempts": "1970-01-01T00:00:00.000Z 10.0.0.1:8080 connection_refused (errno 111) \
                         after 0.001 s; 1970-01-01T00:00:00.000Z 10.0.0.1:8080 timeout (errno 111) after 0.001 s",
        })
    );
}

#[test]
fn the_proxy_s_address_is_logged() {
    let hop = SocketAddr::from(([10, 0, 0, 7], 8080));
    let mut report = unreachable();
    if let EventKind::Unreachable {
        proxy_address,
        attempts,
        ..
    } = &mut report
    {
        *proxy_address = Some(hop);
        attempts.truncate(1);
        attempts[0].proxy_address = Some(hop);
    }
    let events = logged("", || log_event(report));
    assert_eq!(events[0]["hop.address"], "10.0.0.7:8080");
    assert_eq!(
        events[0]["attempts"],
        "1970-01-01T00:00:00.000Z 10.0.0.1:8080 connection_refused of a hop to 10.0.0.7:8080 (errno 111) after 0.001 s"
    );
}

#[test]
fn a_recovery_describes_the_outage() {
    let recovered = EventKind::Reachable {
        outage: Some(EndedOutage {
            duration: Duration::from_millis(12_500),
            cause: Cause::Stalled,
            errors: 4,
            attempts: vec![attempt(Cause::Timeout)],
        }),
        peer_address: to(),
    };
    let events = logged("", || log_event(recovered));
    assert_eq!(events[0]["level"], "INFO");
    assert_eq!(events[0]["outage.duration"], 12.5);
    assert_eq!(events[0]["error.type"], "stalled");
    assert_eq!(events[0]["errors"], 4);
    assert_eq!(
        events[0]["attempts"],
        "1970-01-01T00:00:00.000Z 10.0.0.1:8080 timeout (errno 111) after 0.001 s"
    );
}

#[test]
fn flapping_is_summed_up_on_one_line() {
    let summary = FlapSummary {
        length: Duration::from_secs(60),
        outages: BTreeMap::from([(Cause::ConnectionReset, 120), (Cause::Stalled, 2)]),
        unreachable: Duration::from_millis(17_250),
        errors: 260,
        under_way: true,
    };
    let mut events = logged("", || log_entry(&LogEntry::Summary(summary)));
    events[0].as_object_mut().unwrap().remove("timestamp");
    assert_eq!(
        events[0],
        json!({
            "level": "ERROR",
            "target": "statlink",
            "message": "Autoscaler was repeatedly not reachable from activator.",
            "peer": "autoscaler",
            "k8s.namespace.name": "knative-serving",
            "k8s.pod.name": "activator-1",
            "process.pid": 4711,
            "period": 60.0,
            "outages": 122,
            "runbook": "https://github.com/statlink/statlink/blob/main/deploy/runbooks/alerts.md#knativelinkflapping",
            "error.types": "120 connection_reset, 2 stalled",
            "outage.duration": 17.25,
            "errors": 260,
            "reachable": false,
        })
    );
}

#[test]
fn single_connections_are_logged_at_debug() {
    let all = || {
        log_event(EventKind::Discovered);
        log_event(EventKind::ConnectFailed(attempt(Cause::Timeout)));
        log_event(EventKind::Connected {
            peer_address: to(),
            duration: None,
        });
        log_event(EventKind::Disconnected {
            peer_address: to(),
            cause: Cause::PeerClosed,
            proxy_address: None,
        });
        log_event(EventKind::Ended);
    };
    let levels = |filter| -> Vec<String> {
        let events = logged(filter, all);
        events
            .iter()
            .map(|event| event["level"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(levels(""), ["INFO", "INFO"]);
    assert_eq!(levels("debug"), ["INFO", "DEBUG", "DEBUG", "DEBUG", "INFO"]);
    assert_eq!(
        levels("statlink=debug"),
        ["INFO", "DEBUG", "DEBUG", "DEBUG", "INFO"]
    );
    assert!(levels("warn").is_empty());
    assert!(levels("off").is_empty());
}

#[test]
fn a_bare_level_leaves_libraries_quiet() {
    let others = || tracing::debug!(target: "h2::codec", "frame");
    assert!(logged("debug", others).is_empty());
    assert_eq!(logged("h2=debug", others).len(), 1);
}

#[test]
fn a_bad_filter_is_named() {
    let error = "statlink=loud".parse::<Filter>().unwrap_err().to_string();
    assert!(
        error.starts_with("log filter \"statlink=loud\": "),
        "{error}"
    );
    assert!(error.contains("expected a level"), "{error}");
}

#[test]
fn otlp_gets_statlink_s_transitions_and_nothing_from_the_libraries_that_carry_them() {
    let memory = InMemoryLogExporter::default();
    let provider = SdkLoggerProvider::builder()
        .with_simple_exporter(memory.clone())
        .build();
    let filter = "trace,h2=trace".parse().unwrap();
    let subscriber = subscriber(Format::Text, filter, io::sink, Some(&provider));
    let guard = on_this_thread(subscriber);
    tracing::error!(target: "h2::codec", "frame");
    tracing::error!(target: "opentelemetry_sdk", "own");
    log_event(EventKind::ConnectFailed(attempt(Cause::Timeout)));
    log_event(unreachable());
    drop(guard);
    let logs = memory.get_emitted_logs().unwrap();
    let names: Vec<_> = logs.iter().map(|log| log.record.event_name()).collect();
    assert_eq!(names, [Some("statlink.link.unreachable")]);
}
