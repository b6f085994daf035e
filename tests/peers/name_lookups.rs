//! Activators that dial a name: every way in which a lookup fails, and lookups that do not matter.

use std::time::Duration;

use statlink_tests::{
    figures::Figures,
    names::{self, Answer, URL, ask, drop_lookups},
    netns::Pod,
    peer::{Activator, Autoscaler, Traffic},
    process::{Line, Process},
    scenario::Bed,
};

use crate::{
    PATIENCE,
    agent_log::{assert_outage_logged, log, wait_log},
    start_agent,
};

/// Knative's client in `pod`, which uses the name server in `server`.
fn dial_by_name(pod: &Pod, server: &Pod) -> Activator {
    Activator::start_with(pod, URL, Traffic::Idle, ask(server)).unwrap()
}

fn name_server(pod: &Pod, answer: Answer) -> Process {
    names::name_server(pod, answer).unwrap()
}

/// The address of `of`.
fn address_of(of: &Pod) -> Answer {
    Answer::Address(of.v4, Duration::ZERO)
}

/// A name server that answers with its own address, `late` milliseconds late.
fn slow_name_server(pod: &Pod, late: u64) -> Process {
    name_server(pod, Answer::Address(pod.v4, Duration::from_millis(late)))
}

#[test]
fn failed_lookups_are_dns_and_no_dial_is_counted() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let mut scenes = Vec::new();
    for how in ["refused", "dropped", "nxdomain", "servfail", "late"] {
        let server = bed.network.pod(&format!("{how}-s")).unwrap();
        let pod = bed.network.pod(how).unwrap();
        let answers = match how {
            "nxdomain" => Some(name_server(&server, Answer::NxDomain)),
            "servfail" => Some(name_server(&server, Answer::ServFail)),
            // A dial waits 3 s for the answer.
            "late" => Some(slow_name_server(&server, 4000)),
            _ => None,
        };
        let fault = (how == "dropped").then(|| drop_lookups(&server).unwrap());
        let activator = dial_by_name(&pod, &server);
        scenes.push((how, server, answers, fault, activator));
    }
    for (how, _, _, _, activator) in &scenes {
        bed.wait_reachable(activator, 0, PATIENCE).unwrap();
        bed.wait_error(activator, "liveness", "dns", PATIENCE)
            .unwrap();
        let figures = Figures::of(&bed, activator);
        assert_eq!(figures.checks("connect"), 0.0, "{how}: {figures:#?}");
        // Logged once the cause is known: the first lookups may be older than the discovery.
        let lines = wait_log(&bed, activator, "ERROR", 1);
        let causes: Vec<_> = lines.iter().map(|line| line.get("error.type")).collect();
        assert_eq!(causes, ["dns"], "{how}");
    }
    for (_, server, answers, fault, activator) in &mut scenes {
        if let Some(mut answers) = answers.take() {
            answers.kill().unwrap();
        }
        if let Some(fault) = fault.take() {
            fault.heal().unwrap();
        }
        let _autoscaler = Autoscaler::start(server).unwrap();
        let _answers = name_server(server, address_of(server));
        bed.wait_reachable(activator, 1, PATIENCE).unwrap();
        let figures = Figures::of(&bed, activator);
        assert_eq!(figures.connects, 1.0);
        assert_eq!(figures.checks("connect"), 1.0);
        activator.process.kill().unwrap();
    }
    bed.check_invariants().unwrap();
}

/// Waits until this many more dials of the activator have failed.
#[track_caller]
fn wait_failed_dials(activator: &mut Activator, more: usize) {
    let (mark, mut seen) = (activator.process.mark(), 0);
    let dials = activator
        .process
        .wait_for_after(mark, "more failed dials", PATIENCE, |line| {
            seen += usize::from(line.event() == Some("dial_failed"));
            seen >= more
        });
    dials.unwrap();
}

/// The causes of all errors of one kind that the Collector has ever had.
fn causes(bed: &Bed, activator: &Activator, kind: &str) -> Vec<String> {
    let figures = Figures::of(bed, activator);
    let errors = figures.errors(kind);
    errors.iter().map(|(cause, _)| (*cause).into()).collect()
}

#[test]
fn slow_lookups_are_not_failed_ones() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let slow = |name: &str, late: u64| {
        let server = bed.network.pod(&format!("{name}-s")).unwrap();
        let answers = slow_name_server(&server, late);
        (bed.network.pod(name).unwrap(), server, answers)
    };
    // Nearly as long as Knative's client waits.
    let (pod, server, _answers) = slow("knative", 2500);
    let _autoscaler = Autoscaler::start(&server).unwrap();
    let knative = dial_by_name(&pod, &server);
    let (pod, server, _answers) = slow("test-client", 4000);
    let _autoscaler = Autoscaler::start(&server).unwrap();
    let (at, to) = (format!("{}:53", server.v4), format!("{}:8080", server.v4));
    let own = Activator::stand_in(&pod, ["resolve", &at, &to]).unwrap();
    let (pod, server, _answers) = slow("refused", 2500);
    let mut refused = dial_by_name(&pod, &server);

    for activator in [&knative, &own] {
        bed.wait_reachable(activator, 1, PATIENCE).unwrap();
        let figures = Figures::of(&bed, activator);
        assert_eq!(figures.connects, 1.0, "{figures:#?}");
        assert_eq!(figures.checks("connect"), 1.0, "{figures:#?}");
        assert_eq!(log(&bed, activator, "ERROR").len(), 0);
    }
    // A lookup precedes each dial.
    wait_failed_dials(&mut refused, 4);
    bed.wait_liveness_checks(&refused, 1, PATIENCE).unwrap();
    assert_eq!(causes(&bed, &refused, "connect"), ["connection_refused"]);
    let liveness = causes(&bed, &refused, "liveness");
    assert!(!liveness.contains(&"dns".to_owned()), "{liveness:?}");
    bed.check_invariants().unwrap();
}

#[test]
fn a_wrong_answer_is_no_dns_failure() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let server = bed.network.pod("server").unwrap();
    let elsewhere = bed.network.pod("elsewhere").unwrap();
    let _answers = name_server(&server, address_of(&elsewhere));
    let pod = bed.network.pod("activator").unwrap();
    let activator = dial_by_name(&pod, &server);
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    bed.wait_error(&activator, "connect", "connection_refused", PATIENCE)
        .unwrap();
    assert_outage_logged(
        &bed,
        &activator,
        "connection_refused",
        &elsewhere.v4.to_string(),
    );
    // The agent does not know the autoscaler's addresses here, so any peer that upgrades counts.
    let _elsewhere = Autoscaler::start(&elsewhere).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let connect = causes(&bed, &activator, "connect");
    assert_eq!(connect, ["connection_refused"]);
}

#[test]
fn failed_lookups_of_other_names_are_ignored() {
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let server = bed.network.pod("server").unwrap();
    let pod = bed.network.pod("activator").unwrap();
    // Nothing listens on its port: these lookups fail, and no dial waits for them.
    let resolver = format!("{}:53", server.v4);
    let to = format!("ws://{}", bed.target());
    let more = ["--look-up", "collector", "--resolver", &resolver];
    let mut activator = Activator::start_with(&pod, &to, Traffic::Idle, more).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    activator
        .process
        .wait_for("failed lookup", PATIENCE, |line| {
            line.event() == Some("looked_up") && line.get("failed") == true
        })
        .unwrap();
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.errors.len(), 0, "{figures:#?}");

    let dropped = bed.faults(&activator).blackhole().unwrap();
    bed.wait_error(&activator, "connect", "timeout", PATIENCE)
        .unwrap();
    dropped.heal().unwrap();
    bed.autoscaler().unwrap().process.kill().unwrap();
    bed.wait_error(&activator, "connect", "connection_refused", PATIENCE)
        .unwrap();
    // Until its pauses between two dials are longer than the 4.5 s that the agent allows for a
    // lookup: only then could the agent take one of these for the cause.
    let (mark, mut last) = (activator.process.mark(), None);
    activator
        .process
        .wait_for_after(mark, "long pause", PATIENCE, |line| {
            let dialled = Some(line).filter(|line| line.event() == Some("dial_failed"));
            let Some(now) = dialled.and_then(Line::time) else {
                return false;
            };
            let pause = last.replace(now).map(|last| now.duration_since(last));
            matches!(pause, Some(Ok(pause)) if pause > Duration::from_secs(5))
        })
        .unwrap();
    for kind in ["connect", "disconnect", "liveness"] {
        let causes = causes(&bed, &activator, kind);
        assert!(!causes.contains(&"dns".to_owned()), "{kind}: {causes:?}");
    }
    let causes = log(&bed, &activator, "ERROR");
    assert!(causes.iter().all(|line| line.get("error.type") != "dns"));
    bed.check_invariants().unwrap();
}

#[test]
fn after_a_successful_lookup_the_dial_is_the_cause() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let server = bed.network.pod("server").unwrap();
    let pod = bed.network.pod("activator").unwrap();
    let _answers = name_server(&server, address_of(&server));
    let mut activator = dial_by_name(&pod, &server);
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    bed.wait_error(&activator, "liveness", "connection_refused", PATIENCE)
        .unwrap();
    wait_failed_dials(&mut activator, 4);
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    let liveness = causes(&bed, &activator, "liveness");
    assert_eq!(liveness, ["connection_refused"]);
}
