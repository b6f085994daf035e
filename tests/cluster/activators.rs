//! Activators are scaled, restart, and run on the node's network; the agent's RBAC is withdrawn.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use statlink_tests::cluster::KNATIVE;

use crate::{
    SOON,
    world::{Agent, World, wait},
};

#[test]
fn each_activator_keeps_a_link_of_its_own() {
    let mut world = World::start();
    scaled_up_and_down(&mut world);
    rights_withdrawn(&mut world);
    world.check_invariants([0, 0]);
    container_restarted(&mut world);
    // A restarted container's counters begin at 0 again.
    let restarted = world.marks();
    on_the_node_s_network(&mut world);
    world.check_invariants(restarted);
}

fn scaled_up_and_down(world: &mut World) {
    let [first] = world.activators();
    world.wait_reachable(&first);
    let before = world.before(&first);
    let three: [String; 3] = world.scale_activators();
    for name in &three {
        world.wait_reachable(name);
    }
    world.steady("activators scaled to 3: the first", &before);
    let before: Vec<_> = three.iter().map(|name| world.before(name)).collect();
    let [one] = world.scale_activators();
    for name in three.iter().filter(|name| **name != one) {
        world.wait_ended(name);
    }
    for each in &before {
        world.no_outage(each);
    }
    world.stays_up("activators scaled to 1: who stays", &one);
}

/// The kubelet restarts the container in the same pod, whose counts go on.
fn container_restarted(world: &mut World) {
    let [activator] = world.activators();
    let before = world.before(&activator);
    let old = world.pid(&activator);
    let pid = Pid::from_raw(i32::try_from(old).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    wait("process again", || {
        let process = world.cluster.process(KNATIVE, &activator, "activator");
        process.is_ok_and(|pid| pid != old)
    });
    world.wait_counters_go_on(&before);
    world.gauge(&before, 1.0);
    world.no_outage(&before);
    world.stays_up("activator's container restarted", &activator);
}

/// The API server checks rights only when a watch begins, so it is restarted.
fn rights_withdrawn(world: &mut World) {
    let [activator] = world.activators();
    for Agent { profile, .. } in &world.agents {
        let delete = ["delete", "rolebinding", profile, "--namespace", KNATIVE];
        world.cluster.kubectl(&delete).unwrap();
    }
    let before = world.before(&activator);
    world.cluster.stop_api_server().unwrap();
    world.cluster.start_api_server().unwrap();
    for agent in &world.agents {
        for resource in ["pods", "services", "endpointslices"] {
            wait(&format!("warning of {resource}"), || {
                agent.log(&world.cluster).lines().any(|line| {
                    ["list", "watch"].iter().any(|verb| {
                        line.contains(&format!("failed: {verb} {resource} in {KNATIVE}"))
                    }) && line.contains("forbidden")
                })
            });
        }
    }
    world.steady("RBAC withdrawn", &before);
    let (before, _) = world.lose(
        "RBAC withdrawn, autoscaler rolled out",
        &activator,
        |world| world.rollout_restart(&["autoscaler"]),
        "disconnect",
        |_| &["peer_closed"],
    );
    // The agent does not know the autoscaler's new address, but still knows the Service's.
    world.recovered(&before);
    for agent in &world.agents {
        agent.upgrade(&world.cluster);
        wait("news of pods", || {
            agent
                .log(&world.cluster)
                .contains("Watching pods works again")
        });
    }
}

/// Every process on the node's network dials from the same addresses.
fn on_the_node_s_network(world: &mut World) {
    let [old] = world.activators();
    let spec = json!({ "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet" });
    let patch = json!({ "spec": { "template": { "spec": spec } } }).to_string();
    let patch = format!("--patch={patch}");
    let change = [
        "patch",
        "deployment",
        "activator",
        "--namespace",
        KNATIVE,
        &patch,
    ];
    world.cluster.kubectl(&change).unwrap();
    world
        .cluster
        .rollout_status(KNATIVE, "deployment/activator", SOON)
        .unwrap();
    world.wait_ended(&old);
    let [activator] = world.activators();
    world.wait_reachable(&activator);
    let before = world.lose_autoscaler("hostNetwork, autoscaler scaled to 0", &activator);
    world.scale_autoscaler(1);
    world.recovered(&before);
    world.stays_up("hostNetwork", &activator);
}
