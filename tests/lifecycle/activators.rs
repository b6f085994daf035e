//! Activators start, never connect, and end.

use std::time::Duration;

use statlink_tests::{
    figures::Figures,
    netns::Pod,
    peer::{Activator, PORT, Traffic, bad_server},
    process::Line,
    scenario::{Bed, link, metric},
    wait,
};

use crate::{PATIENCE, options};

#[test]
fn one_that_never_connects_is_0_after_the_grace_and_every_failed_dial_is_counted() {
    let mut bed = Bed::without_autoscaler().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let mut events = bed.agent.as_ref().unwrap().events().unwrap();
    let mut activator = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    // By the agent's own account: 0 comes at the end of the grace, and never before.
    let mut at = |event| {
        let event = events.wait_event(event, PATIENCE).unwrap();
        event.time().unwrap()
    };
    let (discovered, unreachable) = (at("discovered"), at("unreachable"));
    let waited = unreachable.duration_since(discovered).unwrap();
    assert!(waited >= GRACE, "{waited:?}");

    // Compared with the activator's own log, once it can no longer dial.
    activator
        .process
        .wait_event("dial_failed", PATIENCE)
        .unwrap();
    activator.process.freeze().unwrap();
    let failed = |line: &&Line| line.event() == Some("dial_failed");
    let dials = || {
        let dials = activator.process.lines().iter().filter(failed).count();
        f64::from(u32::try_from(dials).unwrap())
    };
    wait::until("export with every failed dial", PATIENCE, || {
        Ok((Figures::of(&bed, &activator).checks("connect") >= dials()).then_some(()))
    })
    .unwrap();
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &activator);
    let attempts = figures.checks("connect");
    assert_eq!(attempts, dials());
    assert_eq!(
        figures.errors("connect"),
        [("connection_refused", attempts)]
    );
}

#[test]
fn the_first_export_of_a_link_has_its_counters_at_zero() {
    let mut bed = Bed::without_autoscaler().unwrap();
    bed.start_agent().unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    let of_link = link(&activator.pod);
    bed.collector
        .wait_for(metric::CHECKS, &of_link, PATIENCE, |_| true)
        .unwrap();
    let first: Vec<f64> = bed.collector.read(|exports| {
        let mut exports = exports.iter().map(|export| &export.points);
        let first = exports.find(|points| points.iter().any(|p| p.is(metric::CHECKS, &of_link)));
        let points = first.unwrap().iter();
        points
            .filter(|p| p.is(metric::CHECKS, &of_link) || p.is(metric::ERRORS, &of_link))
            .map(|p| p.value.number())
            .collect()
    });
    assert!(
        first.len() >= 4,
        "checks of three kinds, and errors: {first:?}"
    );
    assert!(first.iter().all(|value| *value == 0.0), "{first:?}");
    // What it has done by then follows.
    bed.wait_error(&activator, "connect", "connection_refused", PATIENCE)
        .unwrap();
}

#[test]
fn the_series_of_one_that_ends_stop_without_an_error() {
    // The kubelet kills at the end of the grace period; a drained activator ends by itself.
    for signal in ["KILL", "TERM"] {
        let mut bed = Bed::new().unwrap();
        let options = options(&bed);
        bed.start_agent_with(&options).unwrap();
        let mut activator = bed.activator("activator", Traffic::Idle).unwrap();
        bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
        let mark = bed.collector.mark();
        if signal == "KILL" {
            activator.process.kill().unwrap();
        } else {
            activator.process.terminate(PATIENCE).unwrap();
        }
        let of_link = link(&activator.pod);
        for metric in [metric::REACHABLE, metric::CHECKS, metric::CONNECTS] {
            bed.collector
                .wait_absent(metric, &of_link, PATIENCE)
                .unwrap();
        }
        bed.collector.read(|exports| {
            let last = exports.get(mark..).unwrap().iter();
            for point in last.flat_map(|export| &export.points) {
                if point.is(metric::REACHABLE, &of_link) {
                    assert_eq!(point.value.number(), 1.0, "{signal}: {point:#?}");
                }
                if point.is(metric::ERRORS, &of_link) {
                    assert_eq!(point.value.number(), 0.0, "{signal}: {point:#?}");
                }
            }
        });
        let errors = bed.agent.as_ref().unwrap().process.lines();
        let errors = errors.iter().filter(|line| line.get("level") == "ERROR");
        assert_eq!(errors.count(), 0, "{signal}");
    }
}

#[test]
fn activators_of_two_namespaces_have_a_link_each() {
    let mut bed = Bed::new().unwrap();
    let mut options = options(&bed);
    options.activators_in = None;
    bed.start_agent_with(&options).unwrap();
    let one = bed.activator("one", Traffic::Idle).unwrap();
    let mut pod = bed.network.pod("other").unwrap();
    pod.system_namespace.push_str("-other");
    let other = Activator::start(&pod, bed.target(), Traffic::Idle).unwrap();
    for activator in [&one, &other] {
        bed.wait_reachable(activator, 1, PATIENCE).unwrap();
    }
    let fault = bed.faults(&other).blackhole().unwrap();
    bed.wait_reachable(&other, 0, PATIENCE).unwrap();
    bed.wait_error(&other, "disconnect", "stalled", PATIENCE)
        .unwrap();
    let untouched = Figures::of(&bed, &one);
    assert_eq!(untouched.reachable, Some(1.0));
    assert!(untouched.errors.is_empty(), "{untouched:#?}");
    fault.heal().unwrap();
    bed.wait_reachable(&other, 1, PATIENCE).unwrap();
    bed.check_invariants().unwrap();
}

#[test]
fn connections_of_other_processes_to_the_port_change_nothing() {
    let mut bed = Bed::new().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();

    // In its own pod, on the node, and beside the activator.
    let other = bed.network.pod("other").unwrap();
    let sink = bed.network.pod("sink").unwrap();
    let _sink = bad_server(&sink, ["sink", &format!("[::]:{PORT}")]).unwrap();
    let nobody = bed.network.pod("nobody").unwrap();
    for namespace in [
        &other.namespace,
        bed.network.node(),
        &activator.pod.namespace,
    ] {
        namespace
            .run(|| {
                for _ in 0..50 {
                    for (to, up) in [(sink.v4, true), (nobody.v4, false)] {
                        let dial = std::net::TcpStream::connect((to, PORT));
                        assert_eq!(dial.is_ok(), up, "{dial:?}");
                    }
                }
            })
            .unwrap();
    }
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.checks("connect"), 1.0, "{figures:#?}");
    assert_eq!(figures.connects, 1.0);
    assert_eq!(figures.reachable, Some(1.0));
    assert!(figures.errors.is_empty(), "{figures:#?}");
    let links = bed.agent.as_ref().unwrap().activators().unwrap();
    assert_eq!(links.len(), 1, "{links:?}");
    let durations = bed.collector.latest(metric::CONNECT_DURATION, &[]);
    assert_eq!(durations.unwrap().value.number(), 1.0);
}

/// How long a link may take to connect before it is unreachable.
const GRACE: Duration = Duration::from_secs(5);

/// Without the Kubernetes API, only an environment names a process.
#[test]
fn whoever_has_a_name_first_keeps_it_while_it_lives() {
    let mut bed = Bed::new().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let first = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&first, 1, PATIENCE).unwrap();
    let elsewhere = Pod {
        name: first.pod.name.clone(),
        ..bed.network.pod("elsewhere").unwrap()
    };
    let second = Activator::start(&elsewhere, bed.target(), Traffic::Idle).unwrap();
    let agent = bed.agent.as_mut().unwrap();
    let taken = format!("and so does process {}", first.process.pid());
    agent
        .process
        .wait_for(&taken, PATIENCE, |line| line.text.contains(&taken))
        .unwrap();
    let refused = [("statlink.refusal.reason", "name_taken")];
    bed.collector
        .wait_for("statlink.clients.refused", &refused, PATIENCE, |_| true)
        .unwrap();
    let pid = || {
        let links = bed.agent.as_ref().unwrap().activators().unwrap();
        let pids = links.iter().map(|link| link["pid"].as_u64());
        pids.collect::<Option<Vec<_>>>().unwrap()
    };
    assert_eq!(pid(), [u64::from(first.process.pid())]);
    drop(first);
    wait::until("link of the second", PATIENCE, || {
        Ok((pid() == [u64::from(second.process.pid())]).then_some(()))
    })
    .unwrap();
    bed.wait_reachable(&second, 1, PATIENCE).unwrap();
}
