//! Tests: the text that a scraping Prometheus gets.

use std::{path::Path, time::Duration};

use super::*;
use crate::{
    clock,
    link::{Cause, CheckKind, Counts, State},
    memory,
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

/// The lines of a page with this beginning.
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
    // Two hours exceed the largest bound.
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

/// The moment this long after the start.
fn after(time: Duration) -> Timestamp {
    Timestamp::from_nanos(time.as_nanos().try_into().unwrap())
}

/// The number of refused dials of `pod` on a page.
fn refused(page: &str, pod: &str) -> Option<u64> {
    let errors = format!(
        "kn_activator_stats_conn_errors_total{{error_type=\"connection_refused\",{},kn_check_kind=\"connect\",peer=\"autoscaler\"}} ",
        format_args!(r#"k8s_namespace_name="knative-serving",k8s_pod_name="{pod}""#),
    );
    let line = page.lines().find_map(|line| line.strip_prefix(&errors));
    line.map(|count| count.parse().unwrap())
}

fn departed(pod: &str, lives: u64) -> Departed {
    let total = PodCounts { lives, ..total() };
    Departed {
        name: name(pod),
        total,
    }
}

const MOMENT: Duration = Duration::from_millis(1);

/// The first pages may go to anybody: a second replica, or a person with `curl`.
#[test]
fn whoever_asks_first_takes_neither_zeros_nor_last_counts_from_the_others() {
    let page = page();
    let begun = Duration::from_secs(1000);
    let ended = begun + ZEROS * 2;
    let here = snapshot(&["a"], Vec::new());
    let gone = snapshot(&[], vec![departed("a", 1)]);
    for (shown, time, expected) in [
        (&here, begun, Some(0)),
        (&here, begun + MOMENT, Some(0)),
        (&here, begun + ZEROS - MOMENT, Some(0)),
        (&here, begun + ZEROS, Some(3)),
        (&gone, ended, Some(3)),
        (&gone, ended + MOMENT, Some(3)),
        (&gone, ended + LAST_COUNTS - MOMENT, Some(3)),
        (&gone, ended + LAST_COUNTS, None),
    ] {
        let text = page.render_at(shown, after(time));
        assert_eq!(refused(&text, "a"), expected, "after {time:?}");
        // Nobody knows whether an ended pod is reachable.
        let reachable = lines(&text, "kn_activator_stats_conn_reachable{").len();
        assert_eq!(reachable, shown.links.len(), "after {time:?}");
    }
}

#[test]
fn a_pod_that_comes_back_never_falls_and_its_next_end_is_shown_as_long() {
    let page = page();
    let (here, short) = (snapshot(&["a"], Vec::new()), Duration::from_secs(1));
    let first = snapshot(&[], vec![departed("a", 1)]);
    let second = snapshot(&[], vec![departed("a", 2)]);
    // The pod came and went while its zeros were shown.
    for (shown, time, expected) in [
        (&first, short, Some(0)),
        (&first, short + ZEROS, Some(3)),
        (&here, short + ZEROS + MOMENT, Some(3)),
        (&second, LAST_COUNTS, Some(3)),
        (&second, LAST_COUNTS * 2 - MOMENT, Some(3)),
        (&second, LAST_COUNTS * 2, None),
    ] {
        let text = page.render_at(shown, after(time));
        assert_eq!(refused(&text, "a"), expected, "after {time:?}");
    }
}

/// A Prometheus that is the only client, and asks once an hour, also gets the zeros first.
#[test]
fn zeros_are_on_the_first_page_however_late_it_is() {
    let page = page();
    let hour = Duration::from_secs(3600);
    let here = snapshot(&["a"], Vec::new());
    let counts: Vec<_> = (1..=2)
        .map(|hours| refused(&page.render_at(&here, after(hour * hours)), "a"))
        .collect();
    assert_eq!(counts, [Some(0), Some(3)]);
}

/// The page of an agent that starts at `now` and continues from `directory`.
fn next_page(directory: &Path, now: Duration) -> Page {
    let memory = memory::open_again(directory);
    let page = page().with_memory(Some(Arc::clone(&memory)), after(now));
    // Like the loop, before it gives a snapshot.
    memory.write_down([memory::Pod::counting_since(name("a"), 1, clock::now())]);
    page
}

/// A counter that fell to 0 and came back would be counted twice, and again at each restart.
#[test]
fn the_page_of_a_successor_goes_on_where_the_one_before_was() {
    let directory = tempfile::tempdir().unwrap();
    let next = |now| next_page(directory.path(), now);
    let (here, nothing) = (snapshot(&["a"], Vec::new()), snapshot(&[], Vec::new()));
    let begun = Duration::from_secs(1);
    let first = next(begun);
    let text = first.render_at(&here, after(begun));
    assert_eq!(refused(&text, "a"), Some(0));
    drop(first);
    // The agent is killed before it has shown more. A client that has not asked yet gets the zeros
    // of the next one.
    let second_begun = begun + ZEROS * 2;
    let second = next(second_begun);
    for (time, expected) in [
        (second_begun, Some(0)),
        (second_begun + ZEROS - MOMENT, Some(0)),
        (second_begun + ZEROS, Some(3)),
    ] {
        let text = second.render_at(&here, after(time));
        assert_eq!(refused(&text, "a"), expected, "after {time:?}");
    }
    drop(second);
    // However soon the next agents are killed, none of them shows zeros again.
    let mut now = second_begun + ZEROS;
    for _ in 0..2 {
        now += MOMENT;
        let next = next(now);
        // The agent has not found the pod's process yet.
        let text = next.render_at(&nothing, after(now));
        assert_eq!(refused(&text, "a"), None);
        let text = next.render_at(&here, after(now));
        assert_eq!(refused(&text, "a"), Some(3));
    }
}

#[test]
fn last_counts_are_shown_for_their_time_by_one_agent_after_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let next = |now| next_page(directory.path(), now);
    let here = snapshot(&["a"], Vec::new());
    let gone = snapshot(&[], vec![departed("a", 1)]);
    let first = next(MOMENT);
    first.render_at(&here, after(MOMENT));
    first.render_at(&here, after(MOMENT + ZEROS));
    let ended = MOMENT + ZEROS * 2;
    let text = first.render_at(&gone, after(ended));
    assert_eq!(refused(&text, "a"), Some(3));
    drop(first);
    // Nobody may have asked the agent before.
    let again = ended + LAST_COUNTS - MOMENT;
    let second = next(again);
    let last = again + LAST_COUNTS - MOMENT;
    for time in [again, last] {
        let text = second.render_at(&gone, after(time));
        assert_eq!(refused(&text, "a"), Some(3), "after {time:?}");
    }
    drop(second);
    let third = next(last + MOMENT);
    let text = third.render_at(&gone, after(last + MOMENT));
    assert_eq!(refused(&text, "a"), None);
    // The pod has another life.
    let text = third.render_at(&here, after(last + MOMENT));
    assert_eq!(refused(&text, "a"), Some(3));
}

/// To a new Prometheus, everything that a pod had counted before would seem to happen at once.
#[test]
fn a_page_that_is_new_begins_with_what_was_counted_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let memory = memory::open_again(directory.path());
    memory.join(Receiver::Collector);
    memory.write_down([memory::Pod::counting_since(name("a"), 1, clock::now())]);
    let page = page().with_memory(Some(memory), after(MOMENT));
    let text = page.render_at(&snapshot(&["a", "b"], Vec::new()), after(MOMENT));
    assert_eq!(refused(&text, "a"), Some(3));
    // A pod that comes later gets its zeros.
    assert_eq!(refused(&text, "b"), Some(0));
}

/// Over OTLP, an export of this many pods takes several requests.
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
