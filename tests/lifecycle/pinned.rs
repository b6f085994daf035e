//! Agents whose kernel half outlives them are killed, and their successors tell what it went on with meanwhile.

use std::{
    os::unix::net::UnixStream,
    thread,
    time::{Duration, SystemTime},
};

use statlink_tests::{
    agent::{self, Agent},
    bpffs::Bpffs,
    figures::Figures,
    observe::Observed,
    peer::{Activator, Traffic},
    process::{Line, Process},
    scenario::Bed,
    wait,
};
use tempfile::TempDir;

use crate::{HEALTH, PATIENCE, get, options, wait_well};

/// Where agents leave what outlives them.
struct Estate {
    bpffs: Bpffs,
    memory: TempDir,
}

impl Estate {
    fn new() -> Self {
        Self {
            bpffs: Bpffs::mount().unwrap(),
            memory: tempfile::tempdir().unwrap(),
        }
    }

    /// Options of an agent that leaves it, and takes it over.
    fn heir(&self, bed: &Bed) -> agent::Options {
        let mut options = options(bed)
            .arg("--pin-directory")
            .arg(self.bpffs.pins())
            .arg("--state-dir")
            .arg(self.memory.path());
        // Without CAP_SYS_ADMIN: the rights that take over must be no more than those that attach.
        options.capabilities = Some("bpf,perfmon,sys_ptrace,dac_read_search");
        options
    }

    /// An agent with these options that watches a link.
    fn at_work(&self) -> (Bed, agent::Options, Activator) {
        let mut bed = Bed::new().unwrap();
        let options = self.heir(&bed);
        bed.start_agent_with(&options).unwrap();
        let activator = bed.activator("activator", Traffic::Idle).unwrap();
        bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
        (bed, options, activator)
    }

    /// The ids of all that is pinned.
    fn pinned(&self) -> (Vec<u32>, Vec<u32>) {
        (self.bpffs.programs().unwrap(), self.bpffs.maps().unwrap())
    }
}

fn kill(bed: &mut Bed) {
    bed.agent.take().unwrap().process.kill().unwrap();
}

#[track_caller]
fn wait_adopted(agent: &mut Agent) {
    let is = |line: &Line| {
        line.get("message")
            == "Goes on with what the agent before this one has attached, and with its records."
    };
    agent.process.wait_for("takeover", PATIENCE, is).unwrap();
}

/// The newest line of the agent's log about the end of an outage of this cause.
#[track_caller]
fn wait_recovery(agent: &mut Process, activator: &Activator, cause: &str) -> Line {
    let pod = activator.pod.name.clone();
    let is = move |line: &Line| {
        line.get("message") == "Autoscaler is reachable from activator."
            && line.get("k8s.pod.name") == pod.as_str()
            && line.get("error.type") == cause
    };
    agent.wait_for("end of an outage", PATIENCE, is).unwrap()
}

#[test]
fn an_outage_that_began_and_ended_while_no_agent_lived_is_told_with_its_cause_and_length() {
    let estate = Estate::new();
    let mut bed = Bed::new().unwrap();
    let options = estate.heir(&bed);
    bed.start_agent_with(&options).unwrap();
    let mut activator = bed.activator("activator", Traffic::Idle).unwrap();
    activator.wait_connected(PATIENCE).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    let pinned = estate.pinned();
    kill(&mut bed);

    let mark = activator.process.mark();
    let began = std::time::Instant::now();
    bed.faults(&activator).reset_established().unwrap();
    activator.wait_lost_after(mark, PATIENCE).unwrap();
    activator.wait_connected_after(mark, PATIENCE).unwrap();
    let most = began.elapsed();

    let agent = bed.start_agent_with(&options).unwrap();
    wait_adopted(agent);
    let line = wait_recovery(&mut agent.process, &activator, "connection_reset");
    let length = line.get("outage.duration").as_f64().unwrap();
    assert!(
        0.0 < length && length <= most.as_secs_f64(),
        "{most:?}: {}",
        line.text
    );
    // Two dials, and one loss. Once more, and nothing happens meanwhile: nothing is told again.
    for again in [false, true] {
        if again {
            kill(&mut bed);
            wait_adopted(bed.start_agent_with(&options).unwrap());
        }
        bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
        bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
        let figures = Figures::of(&bed, &activator);
        let errors = figures.errors("disconnect");
        assert_eq!(errors, [("connection_reset", 1.0)], "{figures:#?}");
        assert_eq!(figures.checks("connect"), 2.0, "{figures:#?}");
        assert_eq!(figures.connects, 2.0, "{figures:#?}");
        assert_eq!(estate.pinned(), pinned);
    }
    bed.check_invariants().unwrap();
}

/// The agent that waits for the one at work, ready by what its probe says.
fn stand_by(bed: &Bed, options: &agent::Options) -> Agent {
    let options = options.clone().arg("--health-address").arg(HEALTH);
    let mut agent = Agent::spawn(&options).unwrap();
    let waits = |line: &Line| {
        let message = line.get("message").as_str();
        message.is_some_and(|it| it.starts_with("Another agent is at work here."))
    };
    agent.process.wait_for("standby", PATIENCE, waits).unwrap();
    for path in ["/healthz", "/readyz"] {
        wait_well(bed.network.node(), path);
    }
    assert!(UnixStream::connect(agent.socket()).is_err());
    agent
}

#[test]
fn a_successor_waits_ready_and_goes_on_where_its_predecessor_ends() {
    let estate = Estate::new();
    let (mut bed, options, activator) = estate.at_work();
    let pinned = estate.pinned();
    for end in [Process::kill, |it: &mut Process| it.terminate(PATIENCE)] {
        let mut next = stand_by(&bed, &options);
        let before = bed.collector.mark();
        bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
        assert!(bed.collector.mark() > before);
        let mut agent = bed.agent.take().unwrap();
        end(&mut agent.process).unwrap();
        let ended = SystemTime::now();
        wait_adopted(&mut next);
        next.wait_ready(PATIENCE).unwrap();
        println!("without an agent: {:?}", ended.elapsed().unwrap());
        bed.agent = Some(next);
        bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
        let figures = Figures::of(&bed, &activator);
        assert_eq!(figures.connects, 1.0, "{figures:#?}");
        assert_eq!(figures.errors.len(), 0, "{figures:#?}");
        assert_eq!(estate.pinned(), pinned);
        // Its port is free for the next one.
        bed.agent.as_mut().unwrap().process.kill().unwrap();
        bed.start_agent_with(&options).unwrap();
    }
    bed.check_invariants().unwrap();
}

#[test]
fn a_successor_that_cannot_do_its_work_leaves_its_predecessor_at_work() {
    let estate = Estate::new();
    let (bed, mut options, activator) = estate.at_work();
    let pinned = estate.pinned();
    options.capabilities = Some("sys_ptrace");
    let mut next = Agent::spawn(&options).unwrap();
    assert_eq!(next.process.wait(PATIENCE).unwrap().code(), Some(3));
    assert_eq!(estate.pinned(), pinned);
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    // One that could, and is ended before its turn, leaves it at work as well.
    let mut next = stand_by(&bed, &estate.heir(&bed));
    let status = next.process.terminate(PATIENCE).unwrap();
    assert!(status.success(), "{status:?}");
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    assert_eq!(estate.pinned(), pinned);
    bed.check_invariants().unwrap();
}

#[test]
fn a_successor_that_does_not_reach_the_api_is_not_ready_and_takes_its_turn_all_the_same() {
    let estate = Estate::new();
    let (mut bed, options, _activator) = estate.at_work();
    let kubeconfig = estate.memory.path().join("kubeconfig");
    std::fs::write(&kubeconfig, NOBODY_ANSWERS).unwrap();
    let of_cluster = options
        .clone()
        .arg("--health-address")
        .arg(HEALTH)
        .env("STATLINK_KUBERNETES", "on")
        .env("STATLINK_NODE_NAME", "node")
        .env("KUBECONFIG", &kubeconfig);
    let mut next = Agent::spawn(&of_cluster).unwrap();
    let unready = |agent: &Agent| {
        let answer = get(bed.network.node(), "/readyz").unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        UnixStream::connect(agent.socket()).is_ok()
    };
    // Long enough to do all that it does before it is ready.
    thread::sleep(Duration::from_secs(3));
    assert!(!unready(&next));
    bed.agent.take().unwrap().process.kill().unwrap();
    wait_adopted(&mut next);
    next.wait_ready(PATIENCE).unwrap();
    // It works, and is not ready yet.
    assert!(unready(&next));
    next.process.terminate(PATIENCE).unwrap();
}

/// A cluster whose API nobody serves.
const NOBODY_ANSWERS: &str = "
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
";

#[test]
fn an_agent_that_is_killed_before_it_exports_leaves_what_it_pinned() {
    let estate = Estate::new();
    let mut bed = Bed::without_autoscaler().unwrap();
    let options = estate.heir(&bed);
    for successor in [false, true] {
        let agent = bed.start_agent_with(&options).unwrap();
        if successor {
            wait_adopted(agent);
        }
        kill(&mut bed);
    }
}

/// Whatever an agent is doing, starting included: each dial is counted by one of them, and by one alone.
#[test]
fn a_crash_loop_of_the_agent_loses_no_dial_and_leaves_nothing_behind() {
    let estate = Estate::new();
    let mut bed = Bed::without_autoscaler().unwrap();
    let options = estate.heir(&bed);
    bed.start_agent_with(&options).unwrap();
    let to = bed.target().to_string();
    let mut activator = bed
        .stand_in("activator", &["flap", &to, "50", "500"])
        .unwrap();
    bed.wait_error(&activator, "connect", "connection_refused", PATIENCE)
        .unwrap();
    let pinned = estate.pinned();
    kill(&mut bed);
    let lasts = activator.process.mark();
    while activator.process.lines_after(lasts).is_empty() {
        let mut agent = Agent::spawn(&options).unwrap();
        thread::sleep(Duration::from_millis(200));
        agent.process.kill().unwrap();
    }
    activator.process.wait_event("flapped", PATIENCE).unwrap();

    wait_adopted(bed.start_agent_with(&options).unwrap());
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    let mut files = Vec::new();
    for _ in 0..2 {
        bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
        let figures = Figures::of(&bed, &activator);
        let errors = figures.errors("connect");
        assert_eq!(errors, [("connection_refused", 500.0)], "{figures:#?}");
        assert_eq!(figures.checks("connect"), 500.0, "{figures:#?}");
        let agent = bed.agent.as_ref().unwrap();
        let observed = Observed::new(agent.process.pid());
        files.push(observed.descriptors().unwrap());
        kill(&mut bed);
        wait_adopted(bed.start_agent_with(&options).unwrap());
        wait::until("link", PATIENCE, || {
            let links = bed.agent.as_ref().unwrap().activators()?;
            Ok((links.len() == 1).then_some(()))
        })
        .unwrap();
    }
    assert_eq!(estate.pinned(), pinned);
    assert!(files[1] <= files[0] + 3, "descriptors: {files:?}");
    bed.check_invariants().unwrap();
}
