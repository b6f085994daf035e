//! Names, ends and addresses.

use std::{thread, time::Duration};

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
    // It drains, and then ends; its object goes. Neither makes it an activator again.
    member.activator.process.terminate(PATIENCE).unwrap();
    world
        .plane
        .kubectl(&[&delete[..], &["--grace-period=0", "--force"]].concat())
        .unwrap();
    thread::sleep(Duration::from_secs(2));
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
    assert_eq!(world.told("not reachable from activator").len(), 0);
    assert!(!member.uid.is_empty() && !member.container.id.is_empty());
}

#[test]
fn a_sidecar_of_the_activator_s_name_decides_nothing() {
    let mut world = World::new();
    let restricted = world.restricted();
    world.bed.start_agent_with(&restricted).unwrap();
    let member = world.connected("activator");
    // Told before it starts, as a sidecar's container is.
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
    thread::sleep(Duration::from_millis(500));
    let _sidecar = Activator::start_in(&sidecar, pod, world.bed.target()).unwrap();
    thread::sleep(Duration::from_secs(2));
    let links = world.bed.agent.as_ref().unwrap().activators().unwrap();
    assert_eq!(links.len(), 1, "{links:?}");
    assert_eq!(links[0]["pid"], member.activator.process.pid(), "{links:?}");
    let figures = Figures::of(&world.bed, &member.activator);
    assert_eq!(figures.connects, 1.0, "{figures:#?}");
}

#[test]
fn whoever_answers_at_another_address_is_the_wrong_peer_until_the_api_tells_otherwise() {
    let mut world = World::new();
    let right = world.bed.target().ip().to_string();
    world
        .plane
        .endpoints(&world.namespace, &["10.99.0.1"])
        .unwrap();
    let restricted = world.restricted();
    world.bed.start_agent_with(&restricted).unwrap();
    // It upgrades: the one that answers speaks websocket.
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

/// Where Services are balanced at the socket, its destination is a pod's address.
#[test]
fn an_endpoint_s_address_is_right_and_stays_so_for_whom_it_was_when_it_leaves() {
    let mut world = World::new();
    let restricted = world.restricted();
    world.bed.start_agent_with(&restricted).unwrap();
    let member = world.connected("activator");
    // The pod terminates, and has not closed yet.
    world
        .plane
        .endpoints(&world.namespace, &["10.99.0.1"])
        .unwrap();
    thread::sleep(Duration::from_secs(6));
    let figures = Figures::of(&world.bed, &member.activator);
    assert_eq!(figures.reachable, Some(1.0), "{figures:#?}");
    assert_eq!(figures.errors("connect"), [], "{figures:#?}");
    assert_eq!(figures.errors("disconnect"), [], "{figures:#?}");
    // Who dials there now is at the wrong address.
    let bed = &world.bed;
    bed.faults(&member.activator).reset_established().unwrap();
    bed.wait_error(&member.activator, "connect", "wrong_peer", PATIENCE)
        .unwrap();
    bed.wait_reachable(&member.activator, 0, PATIENCE).unwrap();
}
