//! Autoscalers that forward stats to each other, with Knative's own forwarder and server.

use statlink_tests::{
    collector::{Point, Value},
    netns::Pod,
    peer::{Autoscaler, Traffic},
    scenario::{Bed, forwarding, metric},
};

use crate::{PATIENCE, start_agent};

/// Waits until the pod's gauge has this value.
#[track_caller]
fn wait_reachable(bed: &Bed, pod: &Pod, value: u8) {
    let is = |point: &Point| point.value == Value::Gauge(value.into());
    let exported = bed
        .collector
        .wait_for(metric::REACHABLE, &forwarding(pod), PATIENCE, is);
    exported.unwrap();
}

/// Waits until the pod has no gauge.
#[track_caller]
fn wait_idle(bed: &Bed, pod: &Pod) {
    let (gauge, of) = (metric::REACHABLE, forwarding(pod));
    bed.collector.wait_absent(gauge, &of, PATIENCE).unwrap();
}

fn total(bed: &Bed, pod: &Pod, metric: &str, more: &[(&str, &str)]) -> f64 {
    bed.collector
        .total(metric, &[&forwarding(pod), more].concat())
}

/// Waits for an error of this kind and cause.
#[track_caller]
fn wait_error(bed: &Bed, pod: &Pod, kind: &str, cause: &str) {
    let more = [("kn.check.kind", kind), ("error.type", cause)];
    let of = [&forwarding(pod)[..], &more].concat();
    let some = |point: &Point| point.value.number() >= 1.0;
    let exported = bed.collector.wait_for(metric::ERRORS, &of, PATIENCE, some);
    exported.unwrap();
}

fn disconnects(bed: &Bed, pod: &Pod) -> f64 {
    total(bed, pod, metric::CHECKS, &[("kn.check.kind", "disconnect")])
}

/// An autoscaler that forwards stats of two buckets, and two autoscalers that may own them.
struct Owned {
    bed: Bed,
    forwarder: Autoscaler,
    owners: [Autoscaler; 2],
}

impl Owned {
    fn new() -> Self {
        let mut bed = Bed::without_autoscaler().unwrap();
        start_agent(&mut bed);
        let pod = |name| bed.network.pod(name).unwrap();
        let forwarder = Autoscaler::start_forwarding(&pod("autoscaler-0"), 2).unwrap();
        let owners = ["autoscaler-1", "autoscaler-2"];
        let owners = owners.map(|name| Autoscaler::start(&pod(name)).unwrap());
        Self {
            bed,
            forwarder,
            owners,
        }
    }

    fn own(&mut self, bucket: u32, owner: usize) {
        let owner = self.owners.get(owner).unwrap();
        self.forwarder.own(bucket, &owner.pod).unwrap();
    }

    /// Each owner owns a bucket and is connected.
    fn shared() -> Self {
        let mut owned = Self::new();
        owned.own(0, 0);
        owned.own(1, 1);
        let two = |point: &Point| point.value.number() >= 2.0;
        let (bed, pod) = (&owned.bed, &owned.forwarder.pod);
        bed.collector
            .wait_for(metric::CONNECTS, &forwarding(pod), PATIENCE, two)
            .unwrap();
        wait_reachable(bed, pod, 1);
        owned
    }
}

#[test]
fn a_killed_owner_is_an_outage_until_another_takes_over() {
    let mut owned = Owned::shared();
    owned.owners[0].process.kill().unwrap();
    let pod = owned.forwarder.pod.clone();
    wait_reachable(&owned.bed, &pod, 0);
    wait_error(&owned.bed, &pod, "disconnect", "peer_closed");
    wait_error(&owned.bed, &pod, "connect", "connection_refused");
    // Its lease expires, and the other owner takes it.
    owned.own(0, 1);
    wait_reachable(&owned.bed, &pod, 1);
    let bed = &owned.bed;
    assert_eq!(disconnects(bed, &pod), 1.0);
    assert_eq!(total(bed, &pod, metric::CONNECTS, &[]), 3.0);
    let status = bed.agent.as_ref().unwrap().status().unwrap();
    let links = status["links"].as_array().unwrap();
    let link = links.iter().find(|link| link["pod"] == pod.name.as_str());
    let link = link.unwrap();
    assert_eq!(link["state"], "reachable", "{link}");
    assert_eq!(link["peer"], "autoscaler-forwarder", "{link}");
    bed.check_invariants().unwrap();
}

#[test]
fn an_owner_that_comes_back_is_reached_again() {
    let mut owned = Owned::shared();
    let pod = owned.forwarder.pod.clone();
    owned.owners[1].process.freeze().unwrap();
    wait_reachable(&owned.bed, &pod, 0);
    wait_error(&owned.bed, &pod, "disconnect", "stalled");
    owned.owners[1].process.thaw().unwrap();
    wait_reachable(&owned.bed, &pod, 1);
    owned.owners[1].restart().unwrap();
    wait_error(&owned.bed, &pod, "disconnect", "peer_closed");
    wait_reachable(&owned.bed, &pod, 1);
    assert_eq!(disconnects(&owned.bed, &pod), 2.0);
    owned.bed.check_invariants().unwrap();
}

#[test]
fn leadership_that_moves_is_no_error_and_without_a_target_there_is_no_gauge() {
    let mut owned = Owned::shared();
    let pod = owned.forwarder.pod.clone();
    // To the other owner, and then to the forwarder itself, which then has nothing to forward.
    // Knative's Shutdown() takes 10 s each time.
    owned.own(0, 1);
    let (collector, three) = (&owned.bed.collector, |point: &Point| {
        point.value.number() >= 3.0
    });
    collector
        .wait_for(metric::CONNECTS, &forwarding(&pod), PATIENCE, three)
        .unwrap();
    owned.forwarder.own(0, &pod).unwrap();
    owned.forwarder.own(1, &pod).unwrap();
    wait_idle(&owned.bed, &pod);
    let bed = &owned.bed;
    let zeros = bed.collector.read(|exports| {
        let points = exports.iter().flat_map(|export| &export.points);
        let gauge = points.filter(|p| p.is(metric::REACHABLE, &forwarding(&pod)));
        gauge.filter(|p| p.value.number() == 0.0).count()
    });
    assert_eq!(zeros, 0);
    assert_eq!(total(bed, &pod, metric::ERRORS, &[]), 0.0);
    assert_eq!(total(bed, &pod, metric::CONNECTS, &[]), 3.0);
    // Nothing is checked any more, while an activator's link is checked twice.
    let owner = owned.owners[0].v4();
    let activator = bed.activator_to("activator", owner, Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let checks = total(bed, &pod, metric::CHECKS, &[]);
    bed.wait_liveness_checks(&activator, 2, PATIENCE).unwrap();
    assert_eq!(total(bed, &pod, metric::CHECKS, &[]), checks);
    owned.own(0, 0);
    wait_reachable(&owned.bed, &pod, 1);
    owned.bed.check_invariants().unwrap();
}

#[test]
fn each_forwarder_has_a_link_of_its_own_and_connections_it_accepts_are_not_part_of_it() {
    let mut owned = Owned::shared();
    let bed = &owned.bed;
    let second = bed.network.pod("autoscaler-3").unwrap();
    let mut second = Autoscaler::start_forwarding(&second, 2).unwrap();
    let activator = bed
        .activator_to("activator", owned.forwarder.v4(), Traffic::Idle)
        .unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    second.own(0, &owned.owners[0].pod).unwrap();
    wait_reachable(bed, &second.pod, 1);
    owned.owners[1].process.kill().unwrap();
    let bed = &owned.bed;
    wait_reachable(bed, &owned.forwarder.pod, 0);
    wait_reachable(bed, &second.pod, 1);
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    assert_eq!(total(bed, &second.pod, metric::ERRORS, &[]), 0.0);
    assert_eq!(total(bed, &second.pod, metric::CONNECTS, &[]), 1.0);
    assert_eq!(total(bed, &owned.forwarder.pod, metric::CONNECTS, &[]), 2.0);
    // An owner that dials nobody has no gauge; its counters are 0.
    let owner = forwarding(&owned.owners[0].pod);
    let gauge = bed.collector.latest(metric::REACHABLE, &owner);
    assert_eq!(gauge, None);
    assert_eq!(bed.collector.value(metric::CONNECTS, &owner), 0.0);
    assert!(bed.collector.latest(metric::CONNECTS, &owner).is_some());
    bed.check_invariants().unwrap();
}
