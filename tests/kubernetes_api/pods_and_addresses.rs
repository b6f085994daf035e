//! Names and ends of pods, and the autoscaler's addresses.

use statlink_tests::{
    container::Container,
    figures::Figures,
    peer::Activator,
    scenario::{link, metric},
};

use crate::{PATIENCE, world::World};

#[test]
fn a_pod_that_terminates_ends_its_link_without_an_error_while_its_process_drains() {
    let mut world = World::new();
    let restricted = world.restricted();
    world.bed.start_agent_with(&restricted).unwrap();
    let mut member = world.activator("activator");
    let of_link = link(&member.activator.pod);
    world
        .bed
        .wait_reachable(&member.activator, 1, PATIENCE)
        .unwrap();

    let mark = world.bed.collector.mark();
    let (namespace, pod) = (world.namespace.clone(), member.activator.pod.name.clone());
    let delete = ["delete", "pod", &pod, "--namespace", &namespace];
    world
        .plane
        .kubectl(&[&delete[..], &["--wait=false"]].concat())
        .unwrap();
    for metric in [metric::REACHABLE, metric::CHECKS] {
        world
            .bed
            .collector
            .wait_absent(metric, &of_link, PATIENCE)
            .unwrap();
    }
    // It drains and ends, and then its object goes. Neither makes it an activator again.
    member.activator.process.terminate(PATIENCE).unwrap();
    world
        .plane
        .kubectl(&[&delete[..], &["--grace-period=0", "--force"]].concat())
        .unwrap();
    // The agent reads the events of pods in order.
    let _next = world.connected("next");
    world.bed.collector.read(|exports| {
        let since = exports.get(mark..).unwrap().iter();
        for point in since.flat_map(|export| &export.points) {
            if point.is(metric::REACHABLE, &of_link) {
                assert_eq!(point.value.number(), 1.0, "{point:#?}");
            }
            if point.is(metric::ERRORS, &of_link) {
                assert_eq!(point.value.number(), 0.0, "{point:#?}");
            }
        }
    });
    assert_eq!(world.log("not reachable from activator").len(), 0);
    assert!(!member.uid.is_empty() && !member.container.id.is_empty());
}

#[test]
fn a_sidecar_with_the_activator_s_name_decides_nothing() {
    let mut world = World::new();
    let restricted = world.restricted();
    world.bed.start_agent_with(&restricted).unwrap();
    let member = world.connected("activator");
    // The kubelet reports a sidecar's container before it starts.
    let sidecar = Container::new(&member.uid).unwrap();
    let pod = &member.activator.pod;
    let reported = [
        ("activator", member.container.id.as_str()),
        ("proxy", sidecar.id.as_str()),
    ];
    world
        .plane
        .report(&world.namespace, &pod.name, &reported)
        .unwrap();
    // The agent reads the events of pods in order, so it knows of the sidecar when it knows the next
    // pod.
    let _next = world.connected("next");
    let mut proxy = Activator::start_in(&sidecar, pod, world.bed.target()).unwrap();
    proxy.wait_connected(PATIENCE).unwrap();
    let _last = world.connected("last");
    let mut links = world.bed.agent.as_ref().unwrap().activators().unwrap();
    links.retain(|link| link["pod"] == pod.name.as_str());
    assert_eq!(links.len(), 1, "{links:?}");
    assert_eq!(links[0]["pid"], member.activator.process.pid(), "{links:?}");
    let figures = Figures::of(&world.bed, &member.activator);
    assert_eq!(figures.connects, 1.0, "{figures:#?}");
}

#[test]
fn a_peer_at_another_address_is_wrong_until_the_api_names_that_address() {
    let mut world = World::new();
    let right = world.bed.target().ip().to_string();
    world
        .plane
        .endpoints(&world.namespace, &["10.99.0.1"])
        .unwrap();
    let restricted = world.restricted();
    world.bed.start_agent_with(&restricted).unwrap();
    // The connection is upgraded: this peer speaks websocket.
    let member = world.activator("activator");
    world
        .bed
        .wait_error(&member.activator, "connect", "wrong_peer", PATIENCE)
        .unwrap();
    world
        .bed
        .wait_reachable(&member.activator, 0, PATIENCE)
        .unwrap();
    let figures = Figures::of(&world.bed, &member.activator);
    assert_eq!(figures.connects, 0.0, "{figures:#?}");
    world.plane.endpoints(&world.namespace, &[&right]).unwrap();
    world
        .bed
        .wait_reachable(&member.activator, 1, PATIENCE)
        .unwrap();
    world.bed.check_invariants().unwrap();
}

/// With load balancing at the socket, the destination is a pod's address.
#[test]
fn a_connection_to_an_endpoint_stays_right_when_the_endpoint_is_removed() {
    let mut world = World::new();
    let restricted = world.restricted();
    world.bed.start_agent_with(&restricted).unwrap();
    let member = world.connected("activator");
    // As of a pod that terminates and has not closed its connections yet.
    let _newcomer = world.move_autoscaler_elsewhere();
    world
        .bed
        .wait_liveness_checks(&member.activator, 1, PATIENCE)
        .unwrap();
    let figures = Figures::of(&world.bed, &member.activator);
    assert_eq!(figures.reachable, Some(1.0), "{figures:#?}");
    assert_eq!(figures.errors("connect"), [], "{figures:#?}");
    assert_eq!(figures.errors("disconnect"), [], "{figures:#?}");
    // So is this activator's next one.
    let bed = &world.bed;
    bed.faults(&member.activator).reset_established().unwrap();
    bed.wait_error(&member.activator, "connect", "wrong_peer", PATIENCE)
        .unwrap();
    bed.wait_reachable(&member.activator, 0, PATIENCE).unwrap();
}
