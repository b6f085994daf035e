//! The agent's memory with the Kubernetes watch, and the cost of pods that are not activators of
//! its node.

use std::{thread, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};
use statlink_tests::{
    container::Container,
    control_plane::{ControlPlane, NODE},
    peer::Activator,
    scenario::Bed,
};

use crate::{
    PATIENCE,
    figures::{Figures, UNLIMITED, at_most},
    observed,
};

/// Measures on `bed`, whose agent it replaces.
pub(crate) fn measure(bed: &mut Bed, figures: &mut Figures) -> Result<()> {
    eprintln!("the same with the Kubernetes watch");
    let plane = ControlPlane::start(bed.network.node())?;
    let namespace = bed.network.system_namespace();
    plane.namespace(&namespace)?;
    plane.autoscaler(&namespace, "10.96.0.9", &[&bed.target().ip().to_string()])?;
    bed.agent = None;
    let options = bed.agent_options();
    let options = options
        .env("STATLINK_KUBERNETES", "on")
        .env("STATLINK_NODE_NAME", NODE)
        .env("KUBECONFIG", plane.kubeconfig());
    bed.start_agent_with(&options)?;
    // The API names only processes in a pod's container.
    let pod = bed.network.pod("watched")?;
    let container = Container::new(&plane.pod(&namespace, &pod.name)?)?;
    let activator = Activator::start_in(&container, &pod, bed.target())?;
    let reported = [("activator", container.id.as_str())];
    plane.report(&namespace, &pod.name, &reported)?;
    bed.wait_reachable(&activator, 1, PATIENCE)?;
    thread::sleep(SETTLE);
    let agent = observed(bed)?;
    let resident = agent.resident_mb()?;
    figures.add(
        "resident memory with the watch",
        resident,
        "MB",
        at_most(12.0),
    );

    eprintln!("{FOREIGN} foreign pods in the namespace");
    for batch in (0..FOREIGN).step_by(BATCH) {
        let pods: Vec<Value> = (batch..batch + BATCH)
            .map(|n| foreign(&namespace, n))
            .collect();
        plane.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": pods }))?;
        eprintln!("    {}", batch + BATCH);
    }
    thread::sleep(SETTLE);
    let grown = agent.resident_mb()? - resident;
    let what = format!("what {FOREIGN} foreign pods add to it");
    figures.add(what, grown, "MB", UNLIMITED);
    Ok(())
}

/// A pod that the agent must ignore: every other one is on this node, some are activators elsewhere.
fn foreign(namespace: &str, n: usize) -> Value {
    let (app, node) = match (n % 2, n % 3) {
        (0, _) => ("revision", NODE),
        (_, 0) => ("activator", "node-2"),
        _ => ("revision", "node-2"),
    };
    let variables: Vec<Value> = (0..40)
        .map(|n| json!({ "name": format!("VARIABLE_{n}"), "value": "some value of some length" }))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("foreign-{n}"),
            "namespace": namespace,
            "labels": { "app": app },
        },
        "spec": {
            "nodeName": node,
            "containers": [{ "name": "user", "image": "user", "env": variables }],
        },
    })
}

const FOREIGN: usize = 1000;
const BATCH: usize = 250;
/// Time to release the memory of the start, and for the watch to deliver new pods.
const SETTLE: Duration = Duration::from_secs(5);
