//! Activators that dial a name: each way a lookup fails, and lookups that do not matter.

use std::time::Duration;

use statlink_tests::{
    figures::Figures,
    names::{self, Answer, URL, ask, drop_lookups},
    netns::Pod,
    peer::{Activator, Autoscaler, Traffic},
    process::Process,
    scenario::Bed,
};

use crate::{
    PATIENCE, start_agent,
    told::{assert_outage_logged, log},
};

/// Knative's client in `pod`, which asks the name server in `server`.
fn dial_by_name(pod: &Pod, server: &Pod) -> Activator {
    Activator::start_with(pod, URL, Traffic::Idle, ask(server)).unwrap()
}

fn name_server(pod: &Pod, answer: Answer) -> Process {
    names::name_server(pod, answer).unwrap()
}

/// Gives the address of `of`.
fn gives(of: &Pod) -> Answer {
    Answer::Address(of.v4, Duration::ZERO)
}

/// Gives its own address, so many milliseconds late.
fn slow_name_server(pod: &Pod, late: u64) -> Process {
    name_server(pod, Answer::Address(pod.v4, Duration::from_millis(late)))
}

#[test]
fn lookups_that_fail_are_dns_and_nothing_is_counted_as_a_dial() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let mut scenes = Vec::new();
    for how in ["refused", "dropped", "nxdomain", "servfail", "late"] {
        let server = bed.network.pod(&format!("{how}-s")).unwrap();
        let pod = bed.network.pod(how).unwrap();
        let answers = match how {
            "nxdomain" => Some(name_server(&server, Answer::NxDomain)),
            "servfail" => Some(name_server(&server, Answer::ServFail)),
            // The dial has 3 s for it.
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
        // Told once the cause is known, for the first lookups may be older than the agent's news
        // of the activator.
        let lines = log(&bed, activator, "ERROR");
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
        let _answers = name_server(server, gives(server));
        bed.wait_reachable(activator, 1, PATIENCE).unwrap();
        let figures = Figures::of(&bed, activator);
        assert_eq!(figures.connects, 1.0);
        assert_eq!(figures.checks("connect"), 1.0);
        activator.process.kill().unwrap();
    }
    bed.check_invariants().unwrap();
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
    // Nearly as slow as Knative's client has patience for.
    let (pod, server, _answers) = slow("knative", 2500);
    let _autoscaler = Autoscaler::start(&server).unwrap();
    let knative = dial_by_name(&pod, &server);
    let (pod, server, _answers) = slow("ours", 4000);
    let _autoscaler = Autoscaler::start(&server).unwrap();
    let (at, to) = (format!("{}:53", server.v4), format!("{}:8080", server.v4));
    let ours = Activator::stand_in(&pod, ["resolve", &at, &to]).unwrap();
    let (pod, server, _answers) = slow("refused", 2500);
    let refused = dial_by_name(&pod, &server);

    for activator in [&knative, &ours] {
        bed.wait_reachable(activator, 1, PATIENCE).unwrap();
        let figures = Figures::of(&bed, activator);
        assert_eq!(figures.connects, 1.0, "{figures:#?}");
        assert_eq!(figures.checks("connect"), 1.0, "{figures:#?}");
        assert_eq!(log(&bed, activator, "ERROR").len(), 0);
    }
    // Through some of the client's dials, each after a lookup.
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(causes(&bed, &refused, "connect"), ["connection_refused"]);
    let told = causes(&bed, &refused, "liveness");
    assert!(!told.contains(&"dns".to_owned()), "{told:?}");
    bed.check_invariants().unwrap();
}

#[test]
fn an_answer_that_leads_elsewhere_is_no_dns_failure() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let server = bed.network.pod("server").unwrap();
    let elsewhere = bed.network.pod("elsewhere").unwrap();
    let _answers = name_server(&server, gives(&elsewhere));
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
    // Without the autoscaler's addresses, who answers as one is taken for one.
    let _elsewhere = Autoscaler::start(&elsewhere).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let told = causes(&bed, &activator, "connect");
    assert_eq!(told, ["connection_refused"]);
}

#[test]
fn lookups_of_other_names_do_not_confuse() {
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let server = bed.network.pod("server").unwrap();
    let pod = bed.network.pod("activator").unwrap();
    // Nobody is on its port: these lookups fail, and no dial waits for them.
    let resolver = format!("{}:53", server.v4);
    let to = format!("ws://{}", bed.target());
    let more = ["--look-up", "collector", "--resolver", &resolver];
    let activator = Activator::start_with(&pod, &to, Traffic::Idle, more).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    std::thread::sleep(Duration::from_secs(6));
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.errors.len(), 0, "{figures:#?}");

    let dropped = bed.faults(&activator).blackhole().unwrap();
    bed.wait_error(&activator, "connect", "timeout", PATIENCE)
        .unwrap();
    dropped.heal().unwrap();
    bed.autoscaler().unwrap().process.kill().unwrap();
    bed.wait_error(&activator, "connect", "connection_refused", PATIENCE)
        .unwrap();
    // Until its pauses are longer than any lookup takes.
    std::thread::sleep(Duration::from_secs(20));
    for kind in ["connect", "disconnect", "liveness"] {
        let told = causes(&bed, &activator, kind);
        assert!(!told.contains(&"dns".to_owned()), "{kind}: {told:?}");
    }
    let causes = log(&bed, &activator, "ERROR");
    assert!(causes.iter().all(|line| line.get("error.type") != "dns"));
    bed.check_invariants().unwrap();
}

#[test]
fn lookups_that_succeed_leave_the_cause_to_the_dial() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let server = bed.network.pod("server").unwrap();
    let pod = bed.network.pod("activator").unwrap();
    let _answers = name_server(&server, gives(&server));
    let activator = dial_by_name(&pod, &server);
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    bed.wait_error(&activator, "liveness", "connection_refused", PATIENCE)
        .unwrap();
    // Through some of the client's pauses.
    std::thread::sleep(Duration::from_secs(12));
    let told = causes(&bed, &activator, "liveness");
    assert_eq!(told, ["connection_refused"]);
}
