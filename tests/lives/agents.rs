//! Agents come late, end, are killed and meet each other.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::process::ExitStatusExt as _,
    time::{Duration, Instant},
};

use statlink_tests::{
    agent::{self, Agent},
    fault::Faults,
    figures::Figures,
    netns::Namespace,
    peer::{Activator, Traffic},
    process::{Process, Signal},
    scenario::{Bed, link, metric},
};

use crate::{PATIENCE, options};

#[test]
fn one_that_comes_late_knows_the_connection_but_not_its_age() {
    let mut bed = Bed::new().unwrap();
    let mut activator = bed.activator("activator", Traffic::Idle).unwrap();
    activator.wait_connected(PATIENCE).unwrap();
    std::thread::sleep(Duration::from_secs(1));

    let start = Instant::now();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let after = start.elapsed();
    println!("1 at the Collector {after:?} after the agent's start");
    assert!(after < Duration::from_secs(2), "{after:?}");
    let told = &bed.agent.as_ref().unwrap().activators().unwrap()[0];
    assert_eq!(told["state"], "reachable", "{told}");
    assert_eq!(told["since_seconds"], serde_json::Value::Null, "{told}");
    // It was not made before the agent's eyes.
    assert_eq!(told["connects"], 0, "{told}");
    let durations = bed.collector.latest(metric::CONNECT_DURATION, &[]);
    assert_eq!(durations, None);

    bed.faults(&activator).reset_established().unwrap();
    bed.wait_error(&activator, "disconnect", "connection_reset", PATIENCE)
        .unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.checks("disconnect"), 1.0);
}

/// The first SYN vanishes, the agent starts, and the second is answered.
#[test]
fn one_that_comes_in_the_middle_of_a_dial_sees_how_it_ends() {
    let mut bed = Bed::new().unwrap();
    for to in [bed.target(), bed.autoscaler.as_ref().unwrap().v6()] {
        bed.agent = None;
        let pod = bed.network.pod("activator").unwrap();
        let fault = Faults::new(&pod, &bed.autoscaler_pod).drop_syn().unwrap();
        let activator = Activator::start(&pod, to, Traffic::Idle).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let options = options(&bed);
        bed.start_agent_with(&options).unwrap();
        fault.heal().unwrap();
        bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    }
    bed.check_invariants().unwrap();
}

/// The agent sleeps while our dialler starts and dials: to the kernel half it is a stranger.
#[test]
fn what_an_activator_did_before_its_discovery_is_counted() {
    let mut bed = Bed::without_autoscaler().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let agent = &bed.agent.as_ref().unwrap().process;
    agent.freeze().unwrap();
    let to = bed.target().to_string();
    let mut dialler = bed.stand_in("dialler", &["flap", &to, "0", "50"]).unwrap();
    dialler.process.wait_event("flapped", PATIENCE).unwrap();
    agent.thaw().unwrap();
    bed.wait_reachable(&dialler, 0, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &dialler);
    assert_eq!(figures.checks("connect"), 50.0, "{figures:#?}");
    assert_eq!(figures.errors("connect"), [("connection_refused", 50.0)]);
}

#[test]
fn one_that_is_stopped_exports_last_what_it_knows() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut bed = Bed::new().unwrap();
        // Nothing is due for long.
        let options = bed.agent_options().arg("--export-interval").arg("1h");
        bed.start_agent_with(&options).unwrap();
        let activator = bed.activator("activator", Traffic::Idle).unwrap();
        bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
        // Liveness checks that no export has told.
        std::thread::sleep(Duration::from_secs(6));
        let told = Figures::of(&bed, &activator).checks("liveness");
        let mut agent = bed.agent.take().unwrap();
        let known = agent.activators().unwrap()[0]["checks"].as_f64().unwrap();
        let socket = agent.socket().to_owned();
        let start = Instant::now();
        agent.process.signal(signal).unwrap();
        let status = agent.process.wait(Duration::from_secs(5)).unwrap();
        println!("{signal:?}: stopped after {:?}", start.elapsed());
        assert_eq!(status.code(), Some(0));
        assert!(!socket.exists(), "its socket stayed");
        bed.collector
            .wait_for(
                metric::CHECKS,
                &[&link(&activator.pod)[..], &[("kn.check.kind", "liveness")]].concat(),
                PATIENCE,
                |point| point.value.number() > told,
            )
            .unwrap();
        let checks: f64 = Figures::of(&bed, &activator).checks.values().sum();
        assert!(checks >= known, "{checks} of {known}");
    }
}

#[test]
fn a_second_one_on_the_same_socket_is_told_so_and_the_first_goes_on() {
    let mut bed = Bed::new().unwrap();
    bed.start_agent().unwrap();
    let first = bed.agent.as_ref().unwrap();
    let mut command = agent::command(Some(bed.network.node())).unwrap();
    let second = command.arg("run").arg("--socket").arg(first.socket());
    let output = second.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.contains(&first.socket().display().to_string()),
        "{told}"
    );
    assert!(told.contains("another statlink"), "{told}");
    first.status().unwrap();
}

#[test]
fn the_successor_of_one_that_was_killed_takes_its_place() {
    let mut bed = Bed::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("statlink.sock");
    let options = options(&bed).env("STATLINK_SOCKET", &socket);
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    let mut killed = start_by_environment(&bed, &options);
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let status = killed.kill().unwrap();
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
    assert!(socket.exists(), "nobody could remove it");

    let mark = bed.collector.mark();
    let mut successor = start_by_environment(&bed, &options);
    bed.collector
        .wait_for_after(
            mark,
            metric::REACHABLE,
            &link(&activator.pod),
            PATIENCE,
            |point| point.value.number() == 1.0,
        )
        .unwrap();
    successor.terminate(Duration::from_secs(5)).unwrap();
    assert!(!socket.exists());
    bed.agent = None;
}

/// Without a single flag, as a manifest may have it.
fn start_by_environment(bed: &Bed, options: &agent::Options) -> Process {
    let mut command = agent::command(Some(bed.network.node())).unwrap();
    command
        .arg("run")
        .envs(options.env.iter().map(|(name, value)| (name, value)))
        .env("STATLINK_OTLP_ENDPOINT", bed.collector.grpc_endpoint())
        .env("STATLINK_NAMESPACE", bed.network.system_namespace());
    let mut process = Process::spawn("statlink run", command).unwrap();
    process
        .wait_for("start", PATIENCE, |line| line.get("message") == "Attached.")
        .unwrap();
    process
}

#[test]
fn its_health_is_served_on_request() {
    let mut bed = Bed::new().unwrap();
    let options = bed
        .agent_options()
        .arg("--health-address")
        .arg("127.0.0.1:18082");
    bed.start_agent_with(&options).unwrap();
    let node = bed.network.node();
    for path in ["/healthz", "/readyz"] {
        let answer = get(node, path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    assert!(get(node, "/metrics").starts_with("HTTP/1.1 404"));
}

fn get(namespace: &Namespace, path: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect("127.0.0.1:18082")?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    namespace.run(ask).unwrap().unwrap()
}

#[test]
fn its_commands_show_what_it_knows() {
    let mut bed = Bed::new().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let agent: &Agent = bed.agent.as_ref().unwrap();
    let mut command = agent::command(None).unwrap();
    command.arg("status").arg("--socket").arg(agent.socket());
    let table = statlink_tests::netns::run(&mut command).unwrap();
    let line = table
        .lines()
        .find(|line| line.contains(&activator.pod.name))
        .unwrap();
    for cell in [
        &format!("{}/{}", activator.pod.system_namespace, activator.pod.name),
        "autoscaler",
        "reachable",
        &bed.target().to_string(),
        "ms",
    ] {
        assert!(line.contains(cell), "{cell:?} in {table}");
    }
    let status = agent.status().unwrap();
    let told = &agent.activators().unwrap()[0];
    assert_eq!(told["peer_address"], bed.target().to_string(), "{status}");
    assert_eq!(told["connects"], 1, "{status}");
    assert_eq!(told["errors"], 0, "{status}");
    assert!(told["rtt_seconds"].as_f64().unwrap() > 0.0, "{status}");
    assert_eq!(status["records_lost"], 0, "{status}");
    assert_eq!(status["hooks_missing"], serde_json::json!([]), "{status}");
}
