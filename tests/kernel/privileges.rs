//! Which capabilities the agent needs for what, and which it keeps.

use std::{fs, process::Command};

use serde_json::{Value, json};
use statlink_tests::{
    agent::{self, Agent},
    container::Container,
    mock_api::{self, MockApi, Objects},
    netns::{self, Network},
    peer::Activator,
    process::{Line, Process},
};

use crate::PATIENCE;

/// `statlink ARGUMENTS` with only these capabilities, and without a Collector.
fn statlink_with(capabilities: &str, arguments: &[&str]) -> Command {
    let mut command = agent::command_with(capabilities, None).unwrap();
    command.args(arguments).env("OTEL_METRICS_EXPORTER", "none");
    command
}

const TWO: &str = "bpf,perfmon";

const UID: &str = "0b1c2d3e-4f50-4617-8899-aabbccddeeff";

/// An API that knows the pod with these containers, and a Service without endpoints.
fn api_with(containers: &[(&str, &Container)]) -> MockApi {
    let pod = mock_api::pod("knative-by-api", "activator-by-api", UID, containers);
    let service = json!({
        "metadata": {"name": "autoscaler", "resourceVersion": "1"},
        "spec": {"clusterIPs": ["10.96.0.9"]},
    });
    let objects = Objects {
        pods: vec![pod],
        services: vec![service],
    };
    MockApi::start(objects, None).unwrap()
}

fn socket(api: &MockApi) -> String {
    let socket = api.directory().join("statlink.sock");
    socket.to_str().unwrap().to_owned()
}

fn run_with_api(api: &MockApi) -> Process {
    let socket = socket(api);
    let mut command = statlink_with(
        TWO,
        &[
            "run",
            "--kubernetes=on",
            "--node-name=node",
            "--namespace=knative-by-api",
            "--socket",
            &socket,
        ],
    );
    command.env("KUBECONFIG", api.kubeconfig());
    Process::spawn("statlink run", command).unwrap()
}

fn discovered(line: &Line) -> bool {
    line.text.contains("activator-by-api")
}

#[test]
fn two_capabilities_and_the_api_name_an_activator_and_its_namespace() {
    let network = Network::new().unwrap();
    let its_pod = network.pod("activator").unwrap();
    let container = Container::new(UID).unwrap();
    let _activator =
        Activator::stand_in_in(&container, &its_pod, ["cancel", "127.0.0.1:1"]).unwrap();
    let api = api_with(&[("activator", &container)]);
    let mut agent = run_with_api(&api);
    agent.wait_for("discovery", PATIENCE, discovered).unwrap();
    assert_eq!(agent.terminate(PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn a_sidecar_with_the_activator_s_name_is_no_activator() {
    let network = Network::new().unwrap();
    let its_pod = network.pod("activator").unwrap();
    let containers = [Container::new(UID).unwrap(), Container::new(UID).unwrap()];
    let [proxy, own] = &containers;
    let api = api_with(&[("proxy", proxy), ("activator", own)]);
    let sidecar = Activator::stand_in_in(proxy, &its_pod, ["idle"]).unwrap();
    let mut agent = run_with_api(&api);
    agent
        .wait_for("start", PATIENCE, |line| line.get("message") == "Attached.")
        .unwrap();
    // It comes later, so that the agent has seen the sidecar when it knows this one.
    let activator = Activator::stand_in_in(own, &its_pod, ["idle"]).unwrap();
    agent.wait_for("discovery", PATIENCE, discovered).unwrap();
    let mut command = agent::command(None).unwrap();
    command.args(["status", "--json", "--socket", &socket(&api)]);
    let status: Value = serde_json::from_str(&netns::run(&mut command).unwrap()).unwrap();
    let links = status.pointer("/links").unwrap().as_array().unwrap();
    let pids: Vec<_> = links.iter().map(|link| link.get("pid")).collect();
    assert_eq!(pids, [Some(&json!(activator.process.pid()))], "{status}");
    assert_eq!(agent.terminate(PATIENCE).unwrap().code(), Some(0));
    drop(sidecar);
}

/// As the restricted profile has them: two capabilities, and tracefs as a read-only mount.
#[test]
fn two_capabilities_and_tracefs_attach_every_hook() {
    let agent = statlink_with(TWO, &["check", "--json"]);
    let words = [agent.get_program()].into_iter().chain(agent.get_args());
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-ec"])
        // The node may have mounted it: a second mount of it at one place is refused.
        .arg(
            "umount -q /sys/kernel/tracing || true; \
             mount -t tracefs -o ro none /sys/kernel/tracing; exec \"$@\"",
        )
        .arg("sh")
        .args(words)
        .env("OTEL_METRICS_EXPORTER", "none");
    let output = command.output().unwrap();
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let findings = document.pointer("/findings").unwrap().as_array().unwrap();
    let hooks: Vec<_> = findings
        .iter()
        .filter(|finding| {
            let subject = finding.get("subject").and_then(Value::as_str);
            subject.is_some_and(|subject| subject.starts_with("hook ") || subject == "tracefs")
        })
        .collect();
    assert!(hooks.len() > 8, "{document:#}");
    let attached = json!("ok");
    for hook in hooks {
        // One may be for other kernels than this.
        let is_ok = hook.get("verdict") == Some(&attached);
        let by_kernel = hook.get("cause") == Some(&json!("kernel"));
        assert!(is_ok || by_kernel, "{hook:#}");
    }
}

#[test]
fn every_thread_gives_up_what_is_no_longer_needed() {
    let agent =
        Agent::start(&agent::Options::default().env("OTEL_METRICS_EXPORTER", "none")).unwrap();
    let pid = agent.process.pid();
    let mut kept = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
        };
        for set in ["CapEff:", "CapPrm:", "CapInh:", "CapBnd:"] {
            assert_eq!(field(set) & !LOOP, 0, "{status}");
        }
        kept.push(field("CapEff:"));
        // All but that one have a filter of system calls, too.
        assert_eq!(field("Seccomp:") == 2, field("CapEff:") == 0, "{status}");
    }
    kept.sort_unstable();
    // Only the event loop's thread has any.
    assert_eq!(kept.iter().filter(|set| **set != 0).count(), 1, "{kept:x?}");
    assert!(agent.stop().unwrap().success());
}

/// CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF: `include/uapi/linux/capability.h`.
const LOOP: u64 = 1 << 2 | 1 << 19 | 1 << 38 | 1 << 39;

#[test]
fn another_user_s_environment_takes_two_capabilities_to_read() {
    let network = Network::new().unwrap();
    let pod = network.pod("activator").unwrap();
    let activator = Activator::stand_in(&pod, ["idle"]).unwrap();
    let of_it = format!("/proc/{}/environ", activator.process.pid());
    let findings = |capabilities| {
        let output = statlink_with(capabilities, &["check", "--json"])
            .output()
            .unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document.pointer("/findings").unwrap().to_string()
    };
    let refused = findings("bpf,perfmon,sys_ptrace");
    // It names one of several, which may be another test's.
    assert!(refused.contains("/environ: Permission denied"), "{refused}");
    assert!(!refused.contains(&network.system_namespace()), "{refused}");
    let read = findings("bpf,perfmon,sys_ptrace,dac_read_search");
    assert!(!read.contains(&of_it), "{read}");
    assert!(read.contains(&network.system_namespace()), "{read}");
}
