//! The agent from its image and its chart, on a real node.

use std::{path::PathBuf, time::SystemTime};

use anyhow::Context as _;
use statlink_tests::{
    cluster::{Cluster, KNATIVE, OTLP},
    collector::{Point, Value},
    scenario::metric::{ERRORS, REACHABLE},
};

use crate::SOON;

#[test]
fn installed_with_all_privileges_it_tells_of_the_autoscaler_s_absence() {
    follows_the_autoscaler("privileged");
}

#[test]
fn installed_with_two_capabilities_it_tells_of_the_autoscaler_s_absence() {
    follows_the_autoscaler("restricted");
}

fn follows_the_autoscaler(profile: &str) {
    let mut cluster = Cluster::start().unwrap();
    install(&mut cluster, profile);
    let activator = cluster
        .kubectl(&[
            "get",
            "pods",
            "--namespace",
            KNATIVE,
            "--selector=app=activator",
            "--output=jsonpath={.items[*].metadata.name}",
        ])
        .unwrap();
    // Named by its pod, the agent's; without, Knative's own.
    let agent = [
        ("peer", "autoscaler"),
        ("k8s.namespace.name", KNATIVE),
        ("k8s.pod.name", activator.as_str()),
    ];
    reachable(&cluster, &agent, 1.0);

    cluster.scale(KNATIVE, "deployment/autoscaler", 0).unwrap();
    let (told, _) = reachable(&cluster, &agent, 0.0);
    // A Service without endpoints is refused by kube-proxy.
    let refused = [&agent[..], &[("error.type", "connection_refused")]].concat();
    cluster
        .exports
        .wait_for(ERRORS, &refused, SOON, |point| point.value.number() >= 1.0)
        .unwrap();
    let own = |point: &Point| {
        point.is(REACHABLE, &[("peer", "autoscaler")])
            && !point.attributes.contains_key("k8s.pod.name")
            && point.value == Value::Gauge(0.0)
    };
    let knative = cluster.exports.read(|exports| {
        let mut down = exports.iter().filter(|e| e.points.iter().any(own));
        down.next().map(|export| export.arrived)
    });
    eprintln!("down: told by the agent at {told:?}, by Knative at {knative:?}");

    cluster.scale(KNATIVE, "deployment/autoscaler", 1).unwrap();
    cluster
        .rollout_status(KNATIVE, "deployment/autoscaler", SOON)
        .unwrap();
    reachable(&cluster, &agent, 1.0);
    assert_eq!(cluster.exports.undecodable(), Vec::<String>::new());
}

fn reachable(cluster: &Cluster, of: &[(&str, &str)], value: f64) -> (SystemTime, Point) {
    cluster
        .exports
        .wait_for(REACHABLE, of, SOON, |point| {
            point.value == Value::Gauge(value)
        })
        .map_err(|error| {
            let log = cluster.kubectl(&["logs", "--namespace=statlink", "daemonset/statlink"]);
            error.context(format!("the agent's log: {log:?}"))
        })
        .unwrap()
}

/// Installs the image of `STATLINK_IMAGE` by the chart.
fn install(cluster: &mut Cluster, profile: &str) {
    let image = std::env::var_os("STATLINK_IMAGE").map(PathBuf::from);
    let image = image
        .context("STATLINK_IMAGE names no archive; run `cargo xtask test cluster`")
        .unwrap();
    cluster.import_image(&image).unwrap();
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/statlink");
    let set = format!(
        "image.repository=statlink,image.tag=dev,otlp.endpoint={OTLP},otlp.exportInterval=1s,\
         otlp.logs=true,clusterName=testbed,security.profile={profile}"
    );
    cluster
        .helm(&[
            "install",
            "statlink",
            chart,
            "--namespace=statlink",
            "--create-namespace",
            "--set",
            &set,
        ])
        .unwrap();
    cluster
        .rollout_status("statlink", "daemonset/statlink", SOON)
        .unwrap();
}
