//! The agent from its image and its chart, on a real node.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime},
};

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

#[test]
fn a_rollout_of_activators_is_no_error_and_an_outage_of_the_api_hides_none() {
    let mut cluster = Cluster::start().unwrap();
    install(&mut cluster, "restricted");
    let old = activator(&cluster);
    reachable(&cluster, &series(&old), 1.0);
    let status = exec(&cluster, &["status", "--json"]);
    assert!(status.contains(&old), "{status}");
    let check = exec(&cluster, &["check", "--json"]);
    let check: serde_json::Value = serde_json::from_str(&check).unwrap();
    assert_eq!(check["ok"], true, "{check:#}");

    let deployment = ["--namespace", KNATIVE, "deployment/activator"];
    let restart = [&["rollout", "restart"][..], &deployment].concat();
    cluster.kubectl(&restart).unwrap();
    cluster
        .rollout_status(KNATIVE, "deployment/activator", SOON)
        .unwrap();
    cluster
        .exports
        .wait_absent(REACHABLE, &series(&old), SOON)
        .unwrap();
    let new = activator(&cluster);
    assert_ne!(new, old);
    reachable(&cluster, &series(&new), 1.0);
    cluster.exports.read(|exports| {
        for point in exports.iter().flat_map(|export| &export.points) {
            if point.is(REACHABLE, &series(&old)) {
                assert_eq!(point.value, Value::Gauge(1.0), "{point:#?}");
            }
            if point.is(ERRORS, &series(&old)) {
                assert_eq!(point.value.number(), 0.0, "{point:#?}");
            }
        }
    });

    cluster.scale(KNATIVE, "deployment/autoscaler", 0).unwrap();
    reachable(&cluster, &series(&new), 0.0);
    cluster.stop_api_server().unwrap();
    let liveness = [&series(&new)[..], &[("kn.check.kind", "liveness")]].concat();
    let before = cluster.exports.total(ERRORS, &liveness);
    thread::sleep(Duration::from_secs(12));
    let after = cluster.exports.total(ERRORS, &liveness);
    assert!(after >= before + 2.0, "{before} to {after}");
    cluster.start_api_server().unwrap();
    cluster.scale(KNATIVE, "deployment/autoscaler", 1).unwrap();
    reachable(&cluster, &series(&new), 1.0);
    assert_eq!(cluster.exports.undecodable(), Vec::<String>::new());
}

#[test]
fn each_of_several_activators_is_told_and_what_breaks_has_its_cause() {
    let mut cluster = Cluster::start().unwrap();
    install(&mut cluster, "privileged");
    cluster.scale(KNATIVE, "deployment/activator", 3).unwrap();
    cluster
        .rollout_status(KNATIVE, "deployment/activator", SOON)
        .unwrap();
    let three = activators(&cluster);
    assert_eq!(three.len(), 3);
    for name in &three {
        reachable(&cluster, &series(name), 1.0);
    }
    cluster.scale(KNATIVE, "deployment/activator", 1).unwrap();
    let deadline = Instant::now() + SOON;
    while activators(&cluster).len() > 1 {
        assert!(Instant::now() < deadline, "{:?}", activators(&cluster));
        thread::sleep(Duration::from_millis(200));
    }
    let one = activator(&cluster);
    for name in three.iter().filter(|name| **name != one) {
        cluster
            .exports
            .wait_absent(REACHABLE, &series(name), SOON)
            .unwrap();
        assert_eq!(cluster.exports.total(ERRORS, &series(name)), 0.0);
    }

    // Killed without a good-bye, its successor gets ready while the Service rejects.
    let autoscaler = [
        "delete",
        "pod",
        "--namespace",
        KNATIVE,
        "--selector=app=autoscaler",
    ];
    let kill = [&autoscaler[..], &["--force", "--grace-period=0"]].concat();
    cluster.kubectl(&kill).unwrap();
    let lost = [&series(&one)[..], &[("kn.check.kind", "disconnect")]].concat();
    cluster
        .exports
        .wait_for(ERRORS, &lost, SOON, |point| point.value.number() >= 1.0)
        .unwrap();
    reachable(&cluster, &series(&one), 1.0);

    // Without a name server nobody is dialled.
    let names = ("kube-system", "deployment/coredns");
    cluster.scale(names.0, names.1, 0).unwrap();
    thread::sleep(Duration::from_secs(3));
    cluster.kubectl(&kill).unwrap();
    let dns = [&series(&one)[..], &[("error.type", "dns")]].concat();
    cluster
        .exports
        .wait_for(ERRORS, &dns, SOON, |point| point.value.number() >= 1.0)
        .unwrap();
    cluster.scale(names.0, names.1, 1).unwrap();
    reachable(&cluster, &series(&one), 1.0);
    assert_eq!(cluster.exports.undecodable(), Vec::<String>::new());
}

/// The name of the activator's pod that is not being deleted.
fn activator(cluster: &Cluster) -> String {
    let mut names = activators(cluster);
    assert_eq!(names.len(), 1, "{names:?}");
    names.remove(0)
}

/// The names of the activators' pods that are not being deleted.
fn activators(cluster: &Cluster) -> Vec<String> {
    let pods = cluster
        .kubectl(&[
            "get",
            "pods",
            "--namespace",
            KNATIVE,
            "--selector=app=activator",
            "--output=json",
        ])
        .unwrap();
    let pods: serde_json::Value = serde_json::from_str(&pods).unwrap();
    let pods = pods["items"].as_array().unwrap().iter();
    pods.filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none())
        .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The attributes of an activator's series.
fn series(activator: &str) -> [(&str, &str); 3] {
    [
        ("peer", "autoscaler"),
        ("k8s.namespace.name", KNATIVE),
        ("k8s.pod.name", activator),
    ]
}

/// What the agent's program says in the agent's own pod.
fn exec(cluster: &Cluster, command: &[&str]) -> String {
    let pod = ["exec", "--namespace=statlink", "daemonset/statlink", "--"];
    let command = [&pod[..], &["/statlink"], command].concat();
    cluster.kubectl(&command).unwrap()
}

fn follows_the_autoscaler(profile: &str) {
    let mut cluster = Cluster::start().unwrap();
    install(&mut cluster, profile);
    let activator = activator(&cluster);
    // Named by its pod, the agent's; without, Knative's own.
    let agent = series(&activator);
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
