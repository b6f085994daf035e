//! Packet filters, Services and DNS between activator and autoscaler.

use std::time::SystemTime;

use serde_json::{Value, json};
use statlink_tests::cluster::{Filter, KNATIVE};

use crate::{activator_sockets, expectations::GOING, world::World};

#[test]
fn network_faults_are_reported_only_of_the_links_that_they_affect() {
    let mut world = World::start();
    let [touched, other] = world.scale_activators();
    world.wait_reachable(&touched);
    world.wait_reachable(&other);
    everything_dropped(&mut world, &touched, &other);
    new_connections_dropped(&mut world, &touched, &other);
    service_recreated(&mut world, &touched);
    no_name_server(&mut world, &touched);
    names_lead_elsewhere(&mut world, &touched);
    world.check_invariants([0, 0]);
}

/// A policy that breaks established connections: a blackhole, then unanswered SYNs.
fn everything_dropped(world: &mut World, touched: &str, other: &str) {
    let (before, untouched) = (world.before(touched), world.before(other));
    world.cluster.filter(touched, Filter::Drop).unwrap();
    let since = SystemTime::now();
    world.wait_errors("both ways dropped", &before, since, "disconnect", |_| {
        &["stalled"]
    });
    world.gauge(&before, 0.0);
    world.wait_errors(
        "both ways dropped, dialled",
        &before,
        since,
        "connect",
        |_| &["timeout"],
    );
    world.cluster.unfilter(touched).unwrap();
    world.recovered(&before);
    world.nothing_but(&before, "disconnect", |_| &["stalled"]);
    world.nothing_but(&before, "connect", |_| &["timeout"]);
    world.steady("both ways dropped, of another", &untouched);
}

/// A policy that spares established connections.
fn new_connections_dropped(world: &mut World, touched: &str, other: &str) {
    let (before, untouched) = (world.before(touched), world.before(other));
    world.cluster.filter(touched, Filter::DropNew).unwrap();
    world.steady("SYNs dropped, while connected", &before);
    world.steady("SYNs dropped, of another", &untouched);
    let others = world.before(other);
    let (before, _) = world.lose(
        "SYNs dropped, autoscaler rolled out",
        touched,
        |world| world.rollout_restart(&["autoscaler"]),
        "connect",
        |_| &["timeout"],
    );
    world.gauge(&before, 0.0);
    world.recovered(&others);
    world.cluster.unfilter(touched).unwrap();
    world.recovered(&before);
    world.nothing_but(&before, "connect", |_| {
        &["timeout", "connection_refused", "handshake_failed"]
    });
}

/// With another ClusterIP: the established connection stays, to an address that no Service has.
fn service_recreated(world: &mut World, touched: &str) {
    let before = world.before(touched);
    let pid = world.pid(touched);
    let connections = activator_sockets::connections(pid);
    let get = [
        "get",
        "service",
        "autoscaler",
        "--namespace",
        KNATIVE,
        "--output=json",
    ];
    let mut service: Value = serde_json::from_str(&world.cluster.kubectl(&get).unwrap()).unwrap();
    let metadata = service["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| ["name", "namespace", "labels"].contains(&key.as_str()));
    let spec = service["spec"].as_object_mut().unwrap();
    spec.insert("clusterIP".to_owned(), json!("10.96.88.88"));
    spec.insert("clusterIPs".to_owned(), json!(["10.96.88.88"]));
    service.as_object_mut().unwrap().remove("status");
    let delete = ["delete", "service", "autoscaler", "--namespace", KNATIVE];
    world.cluster.kubectl(&delete).unwrap();
    world.wait_liveness_check(touched);
    world.cluster.apply(&service.to_string()).unwrap();
    world.wait_liveness_check(touched);
    assert_eq!(activator_sockets::connections(pid), connections);
    world.steady("Service recreated, while connected", &before);

    let (before, _) = world.lose(
        "Service recreated, autoscaler rolled out",
        touched,
        |world| world.rollout_restart(&["autoscaler"]),
        "disconnect",
        |_| &["peer_closed"],
    );
    world.recovered(&before);
    world.nothing_but(&before, "connect", GOING);
}

fn no_name_server(world: &mut World, touched: &str) {
    let before = world.before(touched);
    world.cluster.stop_name_servers().unwrap();
    world.steady("no name server, while connected", &before);
    let (before, _) = world.lose(
        "no name server, autoscaler deleted",
        touched,
        |world| world.delete_autoscaler(&["--force", "--grace-period=0"]),
        "liveness",
        |_| &["dns"],
    );
    world.gauge(&before, 0.0);
    world.cluster.start_name_servers().unwrap();
    world.recovered(&before);
}

/// A wildcard record leads to another server that speaks websocket.
fn names_lead_elsewhere(world: &mut World, touched: &str) {
    let before = world.before(touched);
    let right = world.cluster.lead_elsewhere().unwrap();
    world.steady("a wildcard's answer, while connected", &before);

    let (before, _) = world.lose(
        "a wildcard's answer, autoscaler rolled out",
        touched,
        |world| world.rollout_restart(&["autoscaler"]),
        "connect",
        |_| &["wrong_peer"],
    );
    world.gauge(&before, 0.0);
    // The connection stays up, but to the wrong peer.
    let meanwhile = world.before(touched);
    world.wait_liveness_check(touched);
    world.always(&meanwhile, 0.0);
    assert_eq!(activator_sockets::connections(world.pid(touched)).len(), 1);
    world.nothing_but(&before, "connect", |_| &["wrong_peer"]);
    world.cluster.lead_right(&right).unwrap();
    world.recovered(&before);
    world.stays_up("a right answer again", touched);
}
