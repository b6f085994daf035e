//! Nothing outlives a test, however it ends.

use std::{fs, panic::catch_unwind, path::Path, process::Command, thread};

use statlink_tests::{
    netns::{self, Network},
    peer::Autoscaler,
    process::{Process, Signal},
    wait,
};

use crate::SOON;

#[test]
fn a_dropped_network_is_gone() {
    let network = Network::new().unwrap();
    let (node, pod) = (
        network.node().path(),
        network.pod("p").unwrap().namespace.path(),
    );
    assert!(node.exists());
    assert!(!pod.exists(), "the pod was dropped already");
    drop(network);
    assert!(!node.exists());
}

#[test]
fn a_panic_leaves_nothing() {
    let panicked = catch_unwind(|| {
        let network = Network::new().unwrap();
        std::panic::panic_any(network.node().path());
    });
    let path = panicked.unwrap_err();
    assert!(!path.downcast_ref::<std::path::PathBuf>().unwrap().exists());
}

#[test]
fn programs_end_with_the_thread_that_started_them() {
    let (network, _, server) = crate::two_pods();
    let pid = thread::scope(|scope| {
        let started = scope.spawn(|| {
            let autoscaler = Autoscaler::start(&server).unwrap();
            let pid = autoscaler.process.pid();
            std::mem::forget(autoscaler);
            pid
        });
        started.join().unwrap()
    });
    let stat = format!("/proc/{pid}/stat");
    let dead = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(" Z "));
    wait::until("end of the program", SOON, || Ok(dead().then_some(()))).unwrap();
    drop(network);
}

#[test]
fn what_a_killed_run_left_is_removed() {
    // The id of a process that has ended.
    let mut child = Command::new("true").spawn().unwrap();
    let name = format!("sl-{}-0-node", child.id());
    child.wait().unwrap();
    netns::run(Command::new("ip").args(["netns", "add", &name])).unwrap();
    netns::sweep();
    assert!(!Path::new("/run/netns").join(name).exists());
}

/// The namespaces of a running `testbed up`.
fn namespaces_of(pid: u32) -> Vec<String> {
    let prefix = format!("sl-{pid}-");
    let names = fs::read_dir("/run/netns").unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&prefix)).collect()
}

fn testbed_up() -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testbed"));
    command.arg("up");
    let mut testbed = Process::spawn("testbed up", command).unwrap();
    testbed
        .wait_for("up", SOON, |line| line.text == "up")
        .unwrap();
    assert_eq!(namespaces_of(testbed.pid()).len(), 3);
    testbed
}

#[test]
fn an_interrupt_leaves_nothing() {
    let mut testbed = testbed_up();
    testbed.signal(Signal::INT).unwrap();
    assert_eq!(testbed.wait(SOON).unwrap().code(), Some(130));
    assert_eq!(namespaces_of(testbed.pid()), [""; 0]);
    let exports = testbed.lines().iter().find_map(|line| {
        let path = line.text.strip_prefix("exports")?;
        Some(path.trim().to_owned())
    });
    assert!(!Path::new(&exports.unwrap()).exists());
}

#[test]
fn the_next_run_removes_what_a_kill_leaves() {
    let mut testbed = testbed_up();
    testbed.kill().unwrap();
    netns::sweep();
    assert_eq!(namespaces_of(testbed.pid()), [""; 0]);
}
