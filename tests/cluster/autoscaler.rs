//! The autoscaler is scaled, deleted and rolled out; the API server is unavailable.

use std::time::{Duration, SystemTime};

use statlink_tests::{
    cluster::KNATIVE,
    collector::{Point, Value},
    scenario::metric::{CHECKS, ERRORS, REACHABLE},
};

use crate::{
    expectations::{GOING, REFUSED},
    world::{World, series, wait},
};

#[test]
fn every_change_of_the_autoscaler_is_reported_with_its_cause() {
    let mut world = World::start();
    installed(&mut world);
    scaled_to_zero_and_back(&mut world);
    deleted_by_force(&mut world);
    autoscaler_rolled_out(&mut world);
    activator_rolled_out(&mut world);
    both_rolled_out(&mut world);
    api_server_away_in_an_outage(&mut world);
    world.check_invariants([0, 0]);
}

fn installed(world: &mut World) {
    let ready = SystemTime::now();
    let [activator] = world.activators();
    for agent in &world.agents {
        let (at, _) = agent
            .exports
            .wait_for(REACHABLE, &series(&activator), WITHIN, |point| {
                point.value == Value::Gauge(1.0)
            })
            .unwrap();
        let after = at.duration_since(ready).unwrap_or_default();
        world
            .table
            .add("installed: reachable", agent.profile, "-", Some(after));
        let status = agent.exec(&world.cluster, &["status", "--json"]);
        assert!(status.contains(&activator), "{status}");
        let check = agent.exec(&world.cluster, &["check", "--json"]);
        let check: serde_json::Value = serde_json::from_str(&check).unwrap();
        assert_eq!(check["ok"], true, "{check:#}");
        // `helm test`: the same in a pod of its own, with the same rights.
        let test = ["test", agent.profile, "--namespace", agent.profile];
        world.cluster.helm(&test).unwrap();
    }
    assert_eq!(knative(world), Some(1.0));
}

fn scaled_to_zero_and_back(world: &mut World) {
    let [activator] = world.activators();
    let before = world.lose_autoscaler("autoscaler scaled to 0", &activator);
    wait("0 in Knative's own gauge", || knative(world) == Some(0.0));

    world.scale_autoscaler(1);
    world.recovered(&before);
    world.nothing_but(&before, "connect", GOING);
    world.nothing_but(&before, "disconnect", |_| &["peer_closed"]);
    wait("1 in Knative's own gauge", || knative(world) == Some(1.0));
}

/// Killed without a close; while its successor starts, the Service rejects.
fn deleted_by_force(world: &mut World) {
    let [activator] = world.activators();
    let (before, _) = world.lose(
        "autoscaler deleted by force",
        &activator,
        |world| world.delete_autoscaler(&["--force", "--grace-period=0"]),
        "disconnect",
        |_| &["peer_closed", "connection_reset"],
    );
    world.recovered(&before);
    world.nothing_but(&before, "connect", GOING);
}

fn autoscaler_rolled_out(world: &mut World) {
    let [activator] = world.activators();
    let (before, _) = world.lose(
        "autoscaler rolled out",
        &activator,
        |world| world.rollout_restart(&["autoscaler"]),
        "disconnect",
        |_| &["peer_closed"],
    );
    world.recovered(&before);
    // Its successor is ready first, but the Service may name the old one for a moment.
    world.nothing_but(&before, "connect", GOING);
}

fn activator_rolled_out(world: &mut World) {
    let [old] = world.activators();
    let before = world.before(&old);
    world.rollout_restart(&["activator"]);
    world.wait_ended(&old);
    world.no_outage(&before);
    let [new] = world.activators();
    assert_ne!(new, old);
    world.wait_reachable(&new);
    world.stays_up("activator rolled out", &new);
}

fn both_rolled_out(world: &mut World) {
    let [old] = world.activators();
    world.rollout_restart(&["autoscaler", "activator"]);
    world.wait_ended(&old);
    let [new] = world.activators();
    world.wait_reachable(&new);
    // The new activator may still be connected to the old autoscaler.
    world.wait_single_autoscaler();
    world.wait_liveness_check(&new);
    world.wait_reachable(&new);
    world.stays_up("both rolled out", &new);
}

fn api_server_away_in_an_outage(world: &mut World) {
    let [activator] = world.activators();
    let before = world.lose_autoscaler("the same, then no API server", &activator);
    // From here on only kube-proxy can refuse a dial, and the last dial before it has ended.
    world.wait_no_autoscaler();
    // Twice: a dial that the client gave up itself is told 300 ms after its end, and the next may be sooner.
    for scenario in ["the same, refused by kube-proxy", "the same, refused again"] {
        let gone = world.before(&activator);
        let now = SystemTime::now();
        world.wait_errors(scenario, &gone, now, "connect", REFUSED);
    }
    world.cluster.stop_api_server().unwrap();
    let away = world.before(&activator);
    let liveness = [&series(&activator)[..], &[("kn.check.kind", "liveness")]].concat();
    for agent in &world.agents {
        let count = |metric| agent.exports.total(metric, &liveness);
        let before = (count(CHECKS), count(ERRORS));
        wait("six more liveness checks", || {
            count(CHECKS) >= before.0 + 6.0
        });
        // Each of them decides against the link.
        let (checks, errors) = (count(CHECKS) - before.0, count(ERRORS) - before.1);
        assert_eq!(errors, checks, "{}", agent.profile);
    }
    world.nothing_but(&away, "liveness", REFUSED);
    world.nothing_but(&away, "connect", REFUSED);
    world.always(&away, 0.0);
    world.cluster.start_api_server().unwrap();
    world.scale_autoscaler(1);
    world.recovered(&before);
    for agent in &world.agents {
        for resource in ["pods", "services", "endpointslices"] {
            wait(&format!("watch of {resource}"), || {
                let log = agent.log(&world.cluster);
                log.contains(&format!("Watching {resource} works again."))
            });
        }
    }
    world.nothing_but(&away, "connect", REFUSED);
    world.stays_up("API server away for 30 s, after", &activator);
}

impl World {
    /// Waits until there is neither an endpoint nor a pod of the autoscaler.
    fn wait_no_autoscaler(&self) {
        let get = ["get", "endpointslices", "--namespace", KNATIVE];
        let of = ["--selector=kubernetes.io/service-name=autoscaler"];
        let addresses = ["--output=jsonpath={.items[*].endpoints[*].addresses[*]}"];
        let get = [&get[..], &of, &addresses].concat();
        wait("absence of endpoints", || {
            self.cluster.kubectl(&get).unwrap().trim().is_empty()
        });
        wait("absence of pods", || self.autoscalers().is_empty());
    }

    /// Waits until the old pod is gone.
    fn wait_single_autoscaler(&self) {
        wait("single autoscaler", || self.autoscalers().len() == 1);
    }

    /// The autoscaler's pods, those that are being deleted included.
    fn autoscalers(&self) -> Vec<String> {
        self.pods(KNATIVE, "app=autoscaler")
    }
}

/// The newest value of Knative's own gauge, which has no pod.
fn knative(world: &World) -> Option<f64> {
    let own = |point: &&Point| {
        point.is(REACHABLE, &[("peer", "autoscaler")])
            && !point.attributes.contains_key("k8s.pod.name")
    };
    world.cluster.exports.read(|exports| {
        let mut points = exports.iter().rev().flat_map(|export| &export.points);
        points.find(own).map(|point| point.value.number())
    })
}

/// Of an agent that is ready.
const WITHIN: Duration = Duration::from_secs(10);
