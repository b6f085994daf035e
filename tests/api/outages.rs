//! The API is away, or refuses.

use statlink_tests::figures::Figures;

use crate::{PATIENCE, world::World};

#[test]
fn while_it_is_away_what_is_known_stays_true_and_one_line_tells_of_each_end() {
    let mut world = World::new();
    // With the environment at hand, newcomers have a name all the same.
    let privileged = world.options();
    world.bed.start_agent_with(&privileged).unwrap();
    let known = world.connected("known");

    world.plane.stop_api().unwrap();
    world.wait_told("Watching pods failed", PATIENCE);
    let bed = &world.bed;
    let newcomer = bed
        .activator("newcomer", statlink_tests::peer::Traffic::Idle)
        .unwrap();
    bed.wait_reachable(&newcomer, 1, PATIENCE).unwrap();
    bed.faults(&known.activator).reset_established().unwrap();
    bed.wait_error(&known.activator, "disconnect", "connection_reset", PATIENCE)
        .unwrap();
    bed.wait_reachable(&known.activator, 1, PATIENCE).unwrap();

    world.plane.start_api().unwrap();
    for resource in ["pods", "services", "endpointslices"] {
        let again = format!("Watching {resource} works again");
        world.wait_told(&again, PATIENCE);
        // A server that comes back refuses until it has read its roles: that is another reason,
        // and so another line.
        let away = format!(" {resource} in {}", world.namespace);
        let told = world.told(&away);
        let refused = told
            .iter()
            .filter(|line| line.contains("forbidden"))
            .count();
        assert!(refused <= 1 && told.len() - refused == 1, "{told:#?}");
    }
    let figures = Figures::of(&world.bed, &known.activator);
    assert_eq!(figures.reachable, Some(1.0));
    assert_eq!(figures.checks("disconnect"), 1.0);
    assert_eq!(figures.connects, 2.0, "{figures:#?}");
    world.bed.check_invariants().unwrap();
}

#[test]
fn a_refusal_names_verb_and_resource_and_what_helps() {
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
        world.wait_told(&format!("list {resource} in {namespace}"), PATIENCE);
    }
    let told = world.told("list pods in");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told.iter()
            .all(|line| line.contains("give the ServiceAccount a Role"))
    );

    world.plane.grant(&namespace).unwrap();
    let _member = world.connected("activator");
}
