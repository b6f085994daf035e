//! What a Prometheus that scrapes gets, as text.

use std::time::Duration;

use super::*;
use crate::{
    link::{Cause, CheckKind, Counts, State},
    snapshot::{AgentSnapshot, Departed, LinkSnapshot, PodCounts, SeriesName},
};

fn page() -> Page {
    let attributes = [
        ("service.name", "statlink"),
        ("k8s.node.name", "node-1"),
        ("deployment.environment.name", "a \"b\" \\ c"),
    ];
    let resource = Resource::builder_empty()
        .with_attributes(attributes.map(|(key, value)| KeyValue::new(key, value)))
        .build();
    Page::new(resource, &ExportLog::new("metrics", String::new()))
}

fn name(pod: &str) -> SeriesName {
    SeriesName {
        peer: "autoscaler".to_owned(),
        namespace: "knative-serving".to_owned(),
        pod: pod.to_owned(),
    }
}

fn total() -> PodCounts {
    let mut counts = Counts::default();
    counts.fail(CheckKind::Connect, Cause::ConnectionRefused, 3);
    PodCounts {
        counts,
        retransmits: 5,
        lives: 1,
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
        total: total(),
    }
}

fn snapshot(pods: &[&str], departed: Vec<Departed>) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        links: pods.iter().map(|pod| link(pod)).collect(),
        departed,
        agent: AgentSnapshot {
            hooks: vec![("tcp_send_reset", true)],
            ring: Some((64, 4096)),
            ..AgentSnapshot::default()
        },
        ..Snapshot::default()
    })
}

const OF_A: &str = r#"k8s_namespace_name="knative-serving",k8s_pod_name="a",peer="autoscaler""#;

/// The lines of a page that begin so.
fn lines<'a>(page: &'a str, start: &str) -> Vec<&'a str> {
    page.lines()
        .filter(|line| line.starts_with(start))
        .collect()
}

#[test]
fn names_and_labels_are_those_that_prometheus_makes_of_otlp() {
    let page = page();
    let durations = page.pipeline().durations();
    durations.connect("autoscaler", Duration::from_millis(3), None);
    durations.outage("autoscaler", Duration::from_secs(7200), Cause::Stalled);
    let text = page.render(&snapshot(&["a"], Vec::new()));
    let reachable = "kn_activator_stats_conn_reachable";
    assert_eq!(
        lines(&text, reachable),
        [format!("{reachable}{{{OF_A}}} 1")]
    );
    for (series, kind) in [
        ("kn_activator_stats_conn_checks_total", "counter"),
        ("kn_activator_stats_conn_rtt_seconds", "gauge"),
        (
            "kn_activator_stats_conn_connect_duration_seconds",
            "histogram",
        ),
        ("statlink_ring_limit_bytes", "gauge"),
        ("statlink_hook_attached", "gauge"),
        ("statlink_exports_total", "counter"),
    ] {
        let types = lines(&text, &format!("# TYPE {series} "));
        assert_eq!(types, [format!("# TYPE {series} {kind}")], "{text}");
        assert_eq!(
            lines(&text, &format!("# HELP {series} ")).len(),
            1,
            "{text}"
        );
    }
    let of_outage = "kn_activator_stats_conn_outage_duration_seconds_bucket";
    let buckets = lines(&text, of_outage);
    // Two hours are more than the largest bound.
    let labels =
        |le| format!("{of_outage}{{error_type=\"stalled\",peer=\"autoscaler\",le=\"{le}\"}}");
    assert_eq!(
        buckets.last(),
        Some(&&*format!("{} 1", labels("+Inf"))),
        "{text}"
    );
    assert_eq!(
        buckets.first(),
        Some(&&*format!("{} 0", labels("0.1"))),
        "{text}"
    );
    let info = r#"target_info{deployment_environment_name="a \"b\" \\ c",k8s_node_name="node-1",service_name="statlink"} 1"#;
    assert_eq!(lines(&text, "target_info"), [info]);
}

#[test]
fn a_pod_begins_with_zeros_and_its_last_counts_are_shown_once() {
    let page = page();
    let errors = format!(
        "kn_activator_stats_conn_errors_total{{error_type=\"connection_refused\",{},kn_check_kind=\"connect\",peer=\"autoscaler\"}}",
        r#"k8s_namespace_name="knative-serving",k8s_pod_name="a""#,
    );
    let counted = |text: &str| lines(text, &errors).first().map(|line| (*line).to_owned());
    let here = snapshot(&["a"], Vec::new());
    assert_eq!(counted(&page.render(&here)), Some(format!("{errors} 0")));
    assert_eq!(counted(&page.render(&here)), Some(format!("{errors} 3")));
    let ended = Departed {
        name: name("a"),
        total: total(),
    };
    let gone = snapshot(&[], vec![ended]);
    let last = page.render(&gone);
    assert_eq!(counted(&last), Some(format!("{errors} 3")));
    assert_eq!(lines(&last, "kn_activator_stats_conn_reachable{"), [""; 0]);
    assert_eq!(counted(&page.render(&gone)), None);
}

/// An export of so many pods takes several requests of OTLP.
#[test]
fn many_pods_are_one_page_with_each_metric_once() {
    let page = page();
    let pods: Vec<_> = (0..200).map(|number| format!("pod-{number}")).collect();
    let pods: Vec<_> = pods.iter().map(String::as_str).collect();
    page.pipeline()
        .durations()
        .connect("autoscaler", Duration::from_millis(3), None);
    let text = page.render(&snapshot(&pods, Vec::new()));
    assert_eq!(
        lines(&text, "kn_activator_stats_conn_reachable{").len(),
        200
    );
    let (mut types, of_types) = (lines(&text, "# TYPE "), lines(&text, "# TYPE ").len());
    types.dedup();
    assert_eq!(types.len(), of_types);
    let counts = "kn_activator_stats_conn_connect_duration_seconds_count";
    assert_eq!(lines(&text, counts).len(), 1);
    assert!(!text.contains("overflow"), "{text}");
}
