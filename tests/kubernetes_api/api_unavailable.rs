//! The API is unavailable, or refuses.

use statlink_tests::figures::Figures;

use crate::{PATIENCE, world::World};

#[test]
fn while_it_is_unavailable_links_stay_known_and_it_is_logged_once() {
    let mut world = World::new();
    // An agent that can read environments names new activators without the API.
    let privileged = world.options();
    world.bed.start_agent_with(&privileged).unwrap();
    let known = world.connected("known");

    world.plane.stop_api().unwrap();
    world.wait_log("Watching pods failed", PATIENCE);
    let bed = &world.bed;
    let newcomer = bed
        .activator("newcomer", statlink_tests::peer::Traffic::Idle)
        .unwrap();
    bed.wait_reachable(&newcomer, 1, PATIENCE).unwrap();
    world.reconnect(&known);

    world.plane.start_api().unwrap();
    for resource in ["pods", "services", "endpointslices"] {
        let again = format!("Watching {resource} works again");
        world.wait_log(&again, PATIENCE);
        // A server that has just started refuses until it has read its roles. That is another
        // reason, and so another line.
        let failed = format!(" {resource} in {}", world.namespace);
        let lines = world.log(&failed);
        let refused = lines
            .iter()
            .filter(|line| line.contains("forbidden"))
            .count();
        assert!(refused <= 1 && lines.len() - refused == 1, "{lines:#?}");
    }
    let figures = Figures::of(&world.bed, &known.activator);
    assert_eq!(figures.reachable, Some(1.0));
    assert_eq!(figures.checks("disconnect"), 1.0);
    assert_eq!(figures.connects, 2.0, "{figures:#?}");
    world.bed.check_invariants().unwrap();
}

/// No watch ends, so only an answer shows that the addresses are current.
#[test]
fn while_it_is_frozen_no_address_is_wrong() {
    let mut world = World::new();
    let right = world.bed.target().ip().to_string();
    let restricted = world.restricted();
    world.bed.start_agent_with(&restricted).unwrap();
    let member = world.connected("activator");
    let _newcomer = world.move_autoscaler_elsewhere();

    world.plane.freeze_api().unwrap();
    world.reconnect(&member);
    world.wait_log("no answer within 1.5 s", PATIENCE);
    let bed = &world.bed;
    // It does not stay right by mere chance: it lives on for a check.
    bed.wait_liveness_checks(&member.activator, 1, PATIENCE)
        .unwrap();
    let figures = Figures::of(&world.bed, &member.activator);
    assert_eq!(figures.reachable, Some(1.0), "{figures:#?}");
    assert_eq!(figures.errors("connect"), [], "{figures:#?}");

    // Once it answers again, its word counts.
    world.plane.thaw_api().unwrap();
    world
        .bed
        .wait_reachable(&member.activator, 0, PATIENCE)
        .unwrap();
    world.plane.endpoints(&world.namespace, &[&right]).unwrap();
    world
        .bed
        .wait_reachable(&member.activator, 1, PATIENCE)
        .unwrap();
    world.bed.check_invariants().unwrap();
}

#[test]
fn a_refusal_is_logged_with_verb_resource_and_cure() {
    let mut world = World::new();
    let namespace = world.namespace.clone();
    let binding = ["delete", "rolebinding", "statlink", "--namespace"];
    world
        .plane
        .kubectl(&[&binding[..], &[&namespace]].concat())
        .unwrap();
    let restricted = world.restricted();
    world.bed.start_agent_with(&restricted).unwrap();
    for resource in ["pods", "services", "endpointslices"] {
        world.wait_log(&format!("list {resource} in {namespace}"), PATIENCE);
    }
    let refusals = world.log("list pods in");
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    assert!(
        refusals
            .iter()
            .all(|line| line.contains("give the ServiceAccount a Role"))
    );

    world.plane.grant(&namespace).unwrap();
    let _member = world.connected("activator");
}
