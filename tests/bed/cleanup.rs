//! Nothing outlives a test, however it ends.

use std::{panic::catch_unwind, path::Path, process::Command, thread};

use statlink_tests::{
    netns::{self, Network},
    peer::Autoscaler,
};

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
            let Autoscaler { process, .. } = Autoscaler::start(&server).unwrap();
            let pid = process.pid();
            std::mem::forget(process);
            pid
        });
        started.join().unwrap()
    });
    let stat = format!("/proc/{pid}/stat");
    let dead = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(" Z "));
    for _ in 0..200 {
        if dead() {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(dead());
    drop(network);
}

#[test]
fn what_a_killed_run_left_is_swept() {
    // A process id that was, and is no more.
    let mut child = Command::new("true").spawn().unwrap();
    let name = format!("sl-{}-0-node", child.id());
    child.wait().unwrap();
    netns::run(Command::new("ip").args(["netns", "add", &name])).unwrap();
    netns::sweep();
    assert!(!Path::new("/run/netns").join(name).exists());
}
