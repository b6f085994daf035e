//! Activators that dial a name: each way a lookup fails, and lookups that do not matter.

use statlink_tests::{
    fault::Fault,
    figures::Figures,
    netns::Pod,
    peer::{Activator, Autoscaler, Traffic, bad_server},
    process::Process,
    scenario::Bed,
};

use crate::{PATIENCE, start_agent, told::log};

const URL: &str = "ws://autoscaler.knative-serving.svc.cluster.local:8080";
const NAME_SERVER: &str = "0.0.0.0:53";

/// Knative's client in `pod`, which asks the name server in `server`.
fn dial_by_name(pod: &Pod, server: &Pod) -> Activator {
    let resolver = format!("{}:53", server.v4);
    Activator::start_with(pod, URL, Traffic::Idle, ["--resolver", &resolver]).unwrap()
}

fn name_server(pod: &Pod, answer: &str) -> Process {
    bad_server(pod, ["dns", NAME_SERVER, answer]).unwrap()
}

#[test]
fn lookups_that_fail_are_dns_and_nothing_is_counted_as_a_dial() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let mut scenes = Vec::new();
    for how in ["refused", "dropped", "nxdomain"] {
        let server = bed.network.pod(&format!("{how}-s")).unwrap();
        let pod = bed.network.pod(how).unwrap();
        let answers = (how == "nxdomain").then(|| name_server(&server, "nxdomain"));
        let fault = (how == "dropped").then(|| {
            let rule = "udp dport 53 drop";
            Fault::nft("lookups dropped", &server.namespace, "input", rule).unwrap()
        });
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
        let _answers = name_server(server, &server.v4.to_string());
        bed.wait_reachable(activator, 1, PATIENCE).unwrap();
        let figures = Figures::of(&bed, activator);
        assert_eq!(figures.connects, 1.0);
        assert_eq!(figures.checks("connect"), 1.0);
        activator.process.kill().unwrap();
    }
    bed.check_invariants().unwrap();
}

#[test]
fn lookups_that_succeed_leave_the_cause_to_the_dial() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let server = bed.network.pod("server").unwrap();
    let pod = bed.network.pod("activator").unwrap();
    let _answers = name_server(&server, &server.v4.to_string());
    let activator = dial_by_name(&pod, &server);
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    bed.wait_error(&activator, "liveness", "connection_refused", PATIENCE)
        .unwrap();
    // Through some of the client's pauses.
    std::thread::sleep(std::time::Duration::from_secs(12));
    let figures = Figures::of(&bed, &activator);
    let causes: Vec<_> = figures
        .errors("liveness")
        .iter()
        .map(|(cause, _)| *cause)
        .collect();
    assert_eq!(causes, ["connection_refused"], "{figures:#?}");
}
