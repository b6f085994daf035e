//! Agents start late, stop, are killed, and run beside each other.

use std::{collections::BTreeMap, fs, net::TcpStream, os::unix::process::ExitStatusExt as _};

use statlink_tests::{
    agent::{self, Agent},
    fault::Faults,
    figures::Figures,
    peer::{Activator, Traffic},
    process::{Process, Signal},
    scenario::{Bed, link, metric},
    tcp::Counters,
    wait,
};

use crate::{HEALTH, PATIENCE, get, options, wait_well};

#[test]
fn one_that_starts_late_finds_the_connection_but_not_its_age() {
    let mut bed = Bed::new().unwrap();
    let mut activator = bed.activator("activator", Traffic::Idle).unwrap();
    activator.wait_connected(PATIENCE).unwrap();

    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    // It knew at once: its first gauge is 1 and came before the first liveness check.
    let of_link = link(&activator.pod);
    let first: Vec<(String, f64)> = bed.collector.read(|exports| {
        let mut exports = exports.iter().map(|export| &export.points);
        let first = exports.find(|points| points.iter().any(|p| p.is(metric::REACHABLE, &of_link)));
        let liveness = [&of_link[..], &[("kn.check.kind", "liveness")]].concat();
        let of_both = first
            .unwrap()
            .iter()
            .filter(|p| p.is(metric::REACHABLE, &of_link) || p.is(metric::CHECKS, &liveness));
        of_both
            .map(|p| (p.metric.clone(), p.value.number()))
            .collect()
    });
    for (name, value) in first {
        let wanted = f64::from(u8::from(name == metric::REACHABLE));
        assert_eq!(value, wanted, "{name}");
    }
    let status = &bed.agent.as_ref().unwrap().activators().unwrap()[0];
    assert_eq!(status["state"], "reachable", "{status}");
    assert_eq!(status["since_seconds"], serde_json::Value::Null, "{status}");
    // The agent did not see its beginning.
    assert_eq!(status["connects"], 0, "{status}");
    let durations = bed.collector.latest(metric::CONNECT_DURATION, &[]);
    assert_eq!(durations, None);

    bed.faults(&activator).reset_established().unwrap();
    bed.wait_error(&activator, "disconnect", "connection_reset", PATIENCE)
        .unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.checks("disconnect"), 1.0);
}

/// The first SYN is dropped, the agent starts, and the second one is answered.
#[test]
fn one_that_starts_in_the_middle_of_a_dial_sees_how_it_ends() {
    let mut bed = Bed::new().unwrap();
    for to in [bed.target(), bed.autoscaler.as_ref().unwrap().v6()] {
        bed.agent = None;
        let pod = bed.network.pod("activator").unwrap();
        let fault = Faults::new(&pod, &bed.autoscaler_pod).drop_syn().unwrap();
        let activator = Activator::start(&pod, to, Traffic::Idle).unwrap();
        let pid = activator.process.pid();
        wait::until("SYN", PATIENCE, || {
            Ok((Counters::of(pid)?.opens > 0).then_some(()))
        })
        .unwrap();
        let options = options(&bed);
        bed.start_agent_with(&options).unwrap();
        fault.heal().unwrap();
        bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    }
    bed.check_invariants().unwrap();
}

/// The agent is frozen while the test client starts and dials: the kernel half sees an untracked
/// source.
#[test]
fn what_an_activator_did_before_its_discovery_is_counted() {
    let mut bed = Bed::without_autoscaler().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let agent = &bed.agent.as_ref().unwrap().process;
    agent.freeze().unwrap();
    let to = bed.target().to_string();
    let mut client = bed
        .stand_in("activator", &["flap", &to, "0", "50"])
        .unwrap();
    client.process.wait_event("flapped", PATIENCE).unwrap();
    agent.thaw().unwrap();
    bed.wait_reachable(&client, 0, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &client);
    assert_eq!(figures.checks("connect"), 50.0, "{figures:#?}");
    assert_eq!(figures.errors("connect"), [("connection_refused", 50.0)]);
}

#[test]
fn the_last_export_of_one_that_is_stopped_has_all_that_it_knows() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut bed = Bed::new().unwrap();
        // No export is due for an hour.
        let options = bed.agent_options().arg("--export-interval").arg("1h");
        bed.start_agent_with(&options).unwrap();
        let activator = bed.activator("activator", Traffic::Idle).unwrap();
        bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
        let mut agent = bed.agent.take().unwrap();
        let exported = || Figures::of(&bed, &activator).checks.values().sum::<f64>();
        let known = wait::until("check that was not exported", PATIENCE, || {
            let known = agent.activators()?[0]["checks"].as_f64().unwrap();
            Ok((known > exported()).then_some(known))
        })
        .unwrap();
        let socket = agent.socket().to_owned();
        agent.process.signal(signal).unwrap();
        let status = agent.process.wait(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0));
        assert!(!socket.exists(), "its socket stayed");
        wait::until("last export", PATIENCE, || {
            Ok((exported() >= known).then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn a_second_one_on_the_same_socket_is_refused_and_the_first_goes_on() {
    let mut bed = Bed::new().unwrap();
    bed.start_agent().unwrap();
    let first = bed.agent.as_ref().unwrap();
    let mut command = agent::command(Some(bed.network.node())).unwrap();
    let second = command.arg("run").arg("--socket").arg(first.socket());
    let output = second.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(
        message.contains(&first.socket().display().to_string()),
        "{message}"
    );
    assert!(message.contains("another statlink"), "{message}");
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
    assert!(socket.exists(), "a killed agent cannot remove it");

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
    successor.terminate(PATIENCE).unwrap();
    assert!(!socket.exists());
    bed.agent = None;
}

/// Without any flag: a manifest may configure it by environment variables alone.
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
    let options = bed.agent_options().arg("--health-address").arg(HEALTH);
    bed.start_agent_with(&options).unwrap();
    let node = bed.network.node();
    for path in ["/healthz", "/readyz"] {
        wait_well(node, path);
    }
    let unknown = get(node, "/metrics").unwrap();
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");

    // Silent connections of strangers keep no probe waiting.
    let connect = || TcpStream::connect(HEALTH);
    let silent = (0..200).map(|_| node.run(connect).unwrap());
    let silent: Vec<_> = silent.collect::<Result<_, _>>().unwrap();
    let probe = get(node, "/healthz").unwrap();
    assert!(probe.starts_with("HTTP/1.1 200"), "{probe}");
    drop(silent);
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
    let of_link = &agent.activators().unwrap()[0];
    let target = bed.target().to_string();
    assert_eq!(of_link["peer_address"], target, "{status}");
    assert_eq!(of_link["connects"], 1, "{status}");
    assert_eq!(of_link["errors"], 0, "{status}");
    assert!(of_link["rtt_seconds"].as_f64().unwrap() > 0.0, "{status}");
    assert_eq!(status["records_lost"], 0, "{status}");
    assert_eq!(status["hooks_missing"], serde_json::json!([]), "{status}");
}

/// By the kernel's own account at the descriptors of maps and programs (`bpf_map_show_fdinfo()`,
/// `bpf_prog_show_fdinfo()` in `kernel/bpf/syscall.c`).
#[test]
fn the_kernel_half_takes_less_than_a_megabyte() {
    let mut bed = Bed::without_autoscaler().unwrap();
    let options = options(&bed);
    let agent = bed.start_agent_with(&options).unwrap();
    let descriptors = fs::read_dir(format!("/proc/{}/fdinfo", agent.process.pid())).unwrap();
    // Several descriptors may be of the same map.
    let mut sizes = BTreeMap::new();
    for descriptor in descriptors {
        let text = fs::read_to_string(descriptor.unwrap().path()).unwrap_or_default();
        let value = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        let id = value("map_id:").map(|id| ("map", id));
        let id = id.or_else(|| value("prog_id:").map(|id| ("program", id)));
        if let (Some(id), Some(bytes)) = (id, value("memlock:")) {
            sizes.insert(id, bytes);
        }
    }
    let bytes: u64 = sizes.values().sum();
    println!("{bytes} bytes in {} maps and programs", sizes.len());
    assert!(sizes.len() > 10, "{sizes:?}");
    assert!(bytes <= 1 << 20, "{bytes}: {sizes:?}");
}
