//! `kubectl statlink` with a healthy agent, one that runs and does not answer, and one that crashes again
//! and again.

use std::{os::unix::fs::symlink, process::Output};

use anyhow::Context as _;
use serde_json::Value;
use statlink_tests::{agent, cluster::KNATIVE};
use tempfile::TempDir;

use crate::world::{World, wait};

#[test]
fn the_whole_cluster_is_asked_whoever_is_sick() {
    let world = World::start();
    let [activator] = world.activators();
    world.wait_reachable(&activator);
    world.cluster.apply(SICK).unwrap();
    wait("crash loop", || {
        let status = status(&world);
        let agents = status["agents"].as_array().unwrap();
        agents.iter().any(|agent| {
            let error = agent["error"].as_str().unwrap_or_default();
            // It waits for its next start, has just ended, or runs for a moment.
            error.contains("Error, exit code 2")
        })
    });

    one_table(&world, &activator);
    a_story(&world, &activator);
    a_bundle(&world);
}

fn one_table(world: &World, activator: &str) {
    let status = status(world);
    let agents = status["agents"].as_array().unwrap();
    assert_eq!(agents.len(), 3, "{status:#}");
    let healthy = agents.iter().find(|agent| agent["version"].is_string());
    let node = healthy.unwrap()["node"].as_str().unwrap();
    let links = status["links"].as_array().unwrap();
    let link = links.iter().find(|link| link["pod"] == activator).unwrap();
    assert_eq!(link["state"], "reachable");
    assert_eq!(link["node"], node);
    assert_eq!(status["unobserved"], serde_json::json!([]));

    let text = plugin(world, &["status"]);
    // Two of three do not answer.
    assert_eq!(text.status.code(), Some(1));
    let text = String::from_utf8(text.stdout).unwrap();
    println!("{text}");
    for expected in [
        activator,
        "1 of 3 agents answer",
        "no answer from crashing on ",
        "no answer from deaf on ",
        "alerts.md#statlinkagentsilent",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let check = plugin(world, &["check", "--json"]);
    let check: Value = serde_json::from_slice(&check.stdout).unwrap();
    let codes = check.as_array().unwrap().iter();
    let answered = codes.filter(|node| node["exit_code"].is_u64());
    assert_eq!(answered.count(), 1, "{check:#}");
}

fn a_story(world: &World, activator: &str) {
    let story = plugin(world, &["why", activator]);
    let text = String::from_utf8(story.stdout).unwrap();
    let expected = format!("{KNATIVE}/{activator} on ");
    assert!(text.starts_with(&expected), "{text}");
    assert!(
        text.contains("has been connected to its autoscaler"),
        "{text}"
    );
    assert!(text.contains("Kubernetes: Running, ready"), "{text}");
    assert_eq!(story.status.code(), Some(0));
    let nobody = plugin(world, &["why", "activator-nobody"]);
    assert_eq!(nobody.status.code(), Some(1));
}

fn a_bundle(world: &World) {
    let home = TempDir::new().unwrap();
    let directory = home.path().join("dump");
    let dump = plugin(world, &["dump", "--output", directory.to_str().unwrap()]);
    // Not all could be had.
    assert_eq!(dump.status.code(), Some(1), "{dump:?}");
    let read = |name: &str| {
        std::fs::read_to_string(directory.join(name))
            .with_context(|| format!("{name}: {dump:?}"))
            .unwrap()
    };
    let errors = read("errors.txt");
    for name in [
        "versions.json",
        "nodes.json",
        "activators.json",
        "service.json",
        "endpointslices.json",
        "daemonset.json",
        "agents/crashing/agent.json",
        "agents/deaf/agent.json",
    ] {
        assert!(!read(name).trim().is_empty(), "{name}: {errors}");
    }
    for expected in [
        "crashing",
        "Error, exit code 2",
        "agents/deaf/status.json: ",
    ] {
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
    // Why it crashes, in its own words; and not what is a secret in its arguments. The kubelet has removed the
    // predecessor where it has ended again.
    let logs = ["log.txt", "log-of-predecessor.txt"].map(|name| {
        let log = directory.join("agents/crashing").join(name);
        std::fs::read_to_string(log).unwrap_or_default()
    });
    let tells = |log: &String| log.contains("--export-interval=never");
    assert!(logs.iter().any(tells), "{logs:?} {errors}");
}

fn status(world: &World) -> Value {
    let status = plugin(world, &["status", "--json"]);
    let text = String::from_utf8_lossy(&status.stderr).into_owned();
    serde_json::from_slice(&status.stdout)
        .context(text)
        .unwrap()
}

/// What the program prints under the name that kubectl looks for, about the agents of one namespace.
fn plugin(world: &World, arguments: &[&str]) -> Output {
    let home = TempDir::new().unwrap();
    let program = home.path().join("kubectl-statlink");
    let binary = agent::command(None).unwrap();
    symlink(binary.get_program(), &program).unwrap();
    let mut command = world.cluster.namespace().command(&program);
    let namespace = ["--namespace", PROFILE, "--timeout", "5s"];
    command.args(arguments).args(namespace);
    command.env("KUBECONFIG", world.cluster.kubeconfig());
    command.output().unwrap()
}

const PROFILE: &str = "privileged";

/// Labelled as agents, beside the real one. The Collector's program is one that runs and is no agent.
const SICK: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: crashing
  namespace: privileged
  labels: {app.kubernetes.io/name: statlink}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: statlink
      image: statlink:dev
      args: [run, --export-interval, never]
---
apiVersion: v1
kind: Pod
metadata:
  name: deaf
  namespace: privileged
  labels: {app.kubernetes.io/name: statlink}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: statlink
      image: docker.io/library/pause:testbed
"#;
