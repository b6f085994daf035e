//! Processes that claim to be an activator's pod, and pods whose process is not seen.

use statlink_tests::{
    container::Container,
    figures::Figures,
    netns::Pod,
    peer::{Activator, Traffic},
    scenario::{link, metric},
    wait,
};

use crate::{PATIENCE, world::World};

/// A uid of no pod.
const NOBODYS: &str = "11111111-2222-3333-4444-555555555555";

/// A pod elsewhere whose environment claims to be `real`.
fn impostors_pod(world: &World, name: &str, real: &Pod) -> Pod {
    Pod {
        name: real.name.clone(),
        ..world.bed.network.pod(name).unwrap()
    }
}

/// The process ids of the links with this pod's name.
fn pids(world: &World, pod: &Pod) -> Vec<u64> {
    let links = world.bed.agent.as_ref().unwrap().activators().unwrap();
    let of_pod = links.iter().filter(|link| link["pod"] == pod.name.as_str());
    of_pod.filter_map(|link| link["pid"].as_u64()).collect()
}

#[test]
fn with_the_api_an_environment_takes_no_name_and_hides_no_outage() {
    for is_restricted in [false, true] {
        let mut world = World::new();
        let options = if is_restricted {
            world.restricted()
        } else {
            world.options()
        };
        world.bed.start_agent_with(&options).unwrap();
        let member = world.connected("activator");
        let pod = member.activator.pod.clone();
        let target = world.bed.target();
        // Each holds a websocket of its own.
        let foreign = Container::new(NOBODYS).unwrap();
        let elsewhere = impostors_pod(&world, "elsewhere", &pod);
        let _in_a_foreign_container = Activator::start_in(&foreign, &elsewhere, target).unwrap();
        let outside = impostors_pod(&world, "outside", &pod);
        let _in_none = Activator::start(&outside, target, Traffic::Idle).unwrap();
        for why in [
            "(activator) is in a container of no pod",
            "(activator) is in no container",
        ] {
            world.wait_log(why, PATIENCE);
            let lines = world.log(why);
            assert_eq!(lines.len(), 1, "{lines:#?}");
            assert!(
                lines[0].contains("An activator may go unseen."),
                "{lines:?}"
            );
        }
        let refused = [("statlink.refusal.reason", "unplaced")];
        world
            .bed
            .collector
            .wait_for("statlink.clients.refused", &refused, PATIENCE, |point| {
                point.value.number() >= 2.0
            })
            .unwrap();
        let real = u64::from(member.activator.process.pid());
        assert_eq!(pids(&world, &pod), [real]);

        // What the impostors hold does not stand for what the real one has lost.
        world.reconnect(&member);
        let bed = &world.bed;
        let figures = Figures::of(bed, &member.activator);
        assert_eq!(figures.connects, 2.0, "{figures:#?}");
        bed.check_invariants().unwrap();
    }
}

#[test]
fn a_sidecar_that_the_kubelet_reports_late_loses_its_link() {
    let mut world = World::new();
    let restricted = world.restricted();
    world.bed.start_agent_with(&restricted).unwrap();
    let pod = world.bed.network.pod("activator").unwrap();
    let uid = world.plane.pod(&world.namespace, &pod.name).unwrap();
    let (sidecar, client) = (Container::new(&uid).unwrap(), Container::new(&uid).unwrap());
    let target = world.bed.target();
    let proxy = Activator::start_in(&sidecar, &pod, target).unwrap();
    let proxy_pid = u64::from(proxy.process.pid());
    wait::until("link of the sidecar", PATIENCE, || {
        Ok((pids(&world, &pod) == [proxy_pid]).then_some(()))
    })
    .unwrap();
    let activator = Activator::start_in(&client, &pod, target).unwrap();
    let reported = [
        ("activator", client.id.as_str()),
        ("proxy", sidecar.id.as_str()),
    ];
    world
        .plane
        .report(&world.namespace, &pod.name, &reported)
        .unwrap();
    let real = u64::from(activator.process.pid());
    wait::until("link of the activator alone", PATIENCE, || {
        Ok((pids(&world, &pod) == [real]).then_some(()))
    })
    .unwrap();
    world.wait_log("is no activator after all", PATIENCE);
    // The next pod's events come after.
    let _next = world.connected("next");
    assert_eq!(pids(&world, &pod), [real]);
}

#[test]
fn a_pod_that_runs_without_a_process_that_is_seen_is_unknown_until_one_is() {
    let mut world = World::new();
    let restricted = world.restricted();
    world.bed.start_agent_with(&restricted).unwrap();
    let pod = world.bed.network.pod("activator").unwrap();
    let uid = world.plane.pod(&world.namespace, &pod.name).unwrap();
    let container = Container::new(&uid).unwrap();
    let reported = [("activator", container.id.as_str())];
    world
        .plane
        .report(&world.namespace, &pod.name, &reported)
        .unwrap();
    world.wait_log("runs here and is not observed", PATIENCE);
    let bed = &world.bed;
    let unobserved = "statlink.pods.unobserved";
    bed.collector
        .wait_for(unobserved, &[], PATIENCE, |point| {
            point.value.number() == 1.0
        })
        .unwrap();
    let status = bed.agent.as_ref().unwrap().status().unwrap();
    let row = &status["links"][0];
    assert_eq!(row["pod"], pod.name.as_str(), "{status}");
    assert_eq!((&row["state"], &row["pid"]), (&"unknown".into(), &0.into()));
    assert_eq!(row["unknown_reason"], "not_observed");
    assert_eq!(
        status["unobserved"][0]["pod"],
        pod.name.as_str(),
        "{status}"
    );
    bed.collector.read(|exports| {
        let mut points = exports.iter().flat_map(|export| &export.points);
        let said = points.find(|point| point.is(metric::REACHABLE, &link(&pod)));
        assert!(said.is_none(), "{said:#?}");
    });

    let activator = Activator::start_in(&container, &pod, bed.target()).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    bed.collector
        .wait_absent(unobserved, &[], PATIENCE)
        .unwrap();
    let told = world.log("runs here and is not observed");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(world.log("is observed, or runs here no longer").len(), 1);
}
