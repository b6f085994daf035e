//! Each way into a real Prometheus, by the configurations that operators take: two activators stay two
//! series with their own names, and the rules record the same labels of all.

use std::{
    fs, thread,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use serde_json::{Value, json};
use statlink_tests::{
    collector::{Configured, free_port},
    deploy,
    prometheus::{Prometheus, post},
    wait,
};

#[test]
fn two_activators_stay_two_series_on_every_path() {
    let page = free_port().unwrap();
    let scrape = fs::read_to_string(deploy::directory().join("collector/scrape.yaml")).unwrap();
    let scrape = scrape
        .replace(
            "opentelemetry-collector.observability:8889",
            &page.to_string(),
        )
        .replace("scrape_interval: 15s", "scrape_interval: 1s");
    let prometheus = Prometheus::start_here(&scrape).unwrap();
    let start = |name: &str, variable: &str, value: &str| {
        Configured::start(None, name, page, (variable, value)).unwrap()
    };
    let otlp = prometheus.otlp_endpoint();
    let gateway = start("gateway.yaml", "PROMETHEUS_OTLP_ENDPOINT", &otlp);
    let exporter = start("exporter.yaml", "UNUSED", "");
    let write = prometheus.remote_write_endpoint();
    let written = start("remote-write.yaml", "REMOTE_WRITE_ENDPOINT", &write);
    // A cluster of its own for each way, so that one Prometheus can tell them apart, by that alone.
    let paths = [
        ("direct", prometheus.address(), "/api/v1/otlp/v1/metrics"),
        ("gateway", gateway.http, "/v1/metrics"),
        ("exporter", exporter.http, "/v1/metrics"),
        ("remote-write", written.http, "/v1/metrics"),
    ];
    for (cluster, to, path) in paths {
        post(to, path, &of_agent(cluster, &BOTH)).unwrap();
    }
    post(gateway.http, "/v1/metrics", &of_knative()).unwrap();

    for (cluster, ..) in paths {
        let recorded = format!("statlink:reachable{{k8s_cluster_name=\"{cluster}\"}}");
        let found = series(&prometheus, &recorded, 2);
        let expected = BOTH.map(|(pod, value)| {
            let labels = format!("{cluster} node-1 knative-serving {pod} autoscaler");
            (labels, f64::from(value))
        });
        assert_eq!(found, expected, "{cluster}");
        let version = format!("statlink:agent_version{{k8s_cluster_name=\"{cluster}\"}}");
        assert_eq!(series(&prometheus, &version, 1).len(), 1, "{cluster}");
    }
    let knative = series(&prometheus, "knative:reachable", 2);
    let pods: Vec<_> = knative.iter().map(|(labels, _)| labels.as_str()).collect();
    assert_eq!(
        pods,
        [
            "knative-serving activator-0 autoscaler",
            "knative-serving activator-1 autoscaler"
        ]
    );

    // activator-1 has ended: nothing is said of it any longer, and its 0 counts for nothing within seconds.
    thread::sleep(APART);
    for (cluster, to, path) in paths {
        post(to, path, &of_agent(cluster, &BOTH[..1])).unwrap();
    }
    for (cluster, ..) in paths {
        let recorded = format!("statlink:reachable_held{{k8s_cluster_name=\"{cluster}\"}}");
        let left = series(&prometheus, &recorded, 1);
        assert!(left[0].0.contains(" activator-0 "), "{cluster}: {left:?}");
    }
}

/// The series of a recorded expression, once there are so many: their labels, and their values.
fn series(prometheus: &Prometheus, expression: &str, count: usize) -> Vec<(String, f64)> {
    let labels = [
        "k8s_cluster_name",
        "k8s_node_name",
        "k8s_namespace_name",
        "k8s_pod_name",
        "peer",
    ];
    let mut last = Vec::new();
    let found = wait::until(expression, RECORDED, || {
        let samples = prometheus.query(expression)?;
        let mut found: Vec<_> = samples
            .iter()
            .map(|sample| {
                let values = labels.iter().filter_map(|label| sample.labels.get(*label));
                let values: Vec<_> = values.map(String::as_str).collect();
                (values.join(" "), sample.value)
            })
            .collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        last.clone_from(&found);
        Ok((found.len() == count).then_some(found))
    });
    found.with_context(|| format!("{last:?}")).unwrap()
}

/// What an agent exports of its activators: each is connected (1) or cut off (0). Its node's name is the same in
/// every cluster.
fn of_agent(cluster: &str, activators: &[(&str, u32)]) -> Value {
    let point = |pod: &str, value: u32| {
        let link = [
            ("peer", "autoscaler"),
            ("k8s.namespace.name", "knative-serving"),
            ("k8s.pod.name", pod),
        ];
        gauge_point(&link, value)
    };
    let points = activators.iter().map(|&(pod, value)| point(pod, value));
    let metrics = [
        gauge(
            "kn.activator.stats.conn.reachable",
            "{reachable}",
            &points.collect::<Vec<_>>(),
        ),
        gauge("statlink.links", "{link}", &[gauge_point(&[], 2)]),
    ];
    let resource = [
        ("service.name", "statlink"),
        ("service.version", "0.1.0"),
        ("service.instance.id", &format!("{cluster}/node-1")),
        ("k8s.node.name", "node-1"),
        ("k8s.cluster.name", cluster),
    ];
    json!({"resourceMetrics": [exported(&resource, "statlink", &metrics)]})
}

/// What Knative's activators export of themselves: their pod is on the resource alone.
fn of_knative() -> Value {
    let of = |pod: &str, value: u32| {
        let resource = [
            ("service.name", "activator"),
            ("k8s.namespace.name", "knative-serving"),
            ("k8s.pod.name", pod),
        ];
        let point = gauge_point(&[("peer", "autoscaler")], value);
        let metric = gauge("kn.activator.stats.conn.reachable", "{reachable}", &[point]);
        exported(&resource, "knative.dev/serving/pkg/activator", &[metric])
    };
    json!({"resourceMetrics": [of("activator-0", 1), of("activator-1", 0)]})
}

fn exported(resource: &[(&str, &str)], scope: &str, metrics: &[Value]) -> Value {
    json!({
        "resource": {"attributes": attributes(resource)},
        "scopeMetrics": [{"scope": {"name": scope, "version": "0.1.0"}, "metrics": metrics}],
    })
}

fn gauge(name: &str, unit: &str, points: &[Value]) -> Value {
    json!({"name": name, "unit": unit, "gauge": {"dataPoints": points}})
}

fn gauge_point(of: &[(&str, &str)], value: u32) -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    json!({
        "attributes": attributes(of),
        "timeUnixNano": now.unwrap().as_nanos().to_string(),
        "asDouble": value,
    })
}

fn attributes(of: &[(&str, &str)]) -> Vec<Value> {
    let pairs = of.iter();
    let pairs = pairs.map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}));
    pairs.collect()
}

/// One is connected, the other is cut off.
const BOTH: [(&str, u32); 2] = [("activator-0", 1), ("activator-1", 0)];
/// Longer than the parts of one export may be apart, by the rules; shorter than what makes a 0 an outage that may
/// pause.
const APART: Duration = Duration::from_secs(17);
/// Rules are evaluated every 10 s and 30 s, and the second kind reads what the first recorded.
const RECORDED: Duration = Duration::from_secs(90);
