//! Any number of processes with an activator's name, beside a real one.

use std::{
    os::unix::{fs::symlink, process::CommandExt as _},
    process::{Child, Command, Stdio},
};

use statlink_tests::{
    figures::Figures,
    peer::Traffic,
    scenario::{Bed, link, metric},
};
use tempfile::TempDir;

use crate::{PATIENCE, options};

/// More than the clients that may name themselves, and than the places in the kernel half.
const STRANGERS: usize = 300;

/// Processes that end with the test.
struct Crowd {
    strangers: Vec<Child>,
    _directory: TempDir,
}

impl Crowd {
    /// Each claims to be a pod of `namespace`, with a name that sorts before others.
    fn of(number: usize, namespace: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("activator");
        symlink("/bin/sleep", &program).unwrap();
        let stranger = |n: usize| {
            let mut command = Command::new(&program);
            command.arg0("sleep").arg("1000").env_clear();
            command
                .env("POD_NAME", format!("a-{n}"))
                .env("SYSTEM_NAMESPACE", namespace)
                .stdin(Stdio::null());
            command.spawn().unwrap()
        };
        Self {
            strangers: (0..number).map(stranger).collect(),
            _directory: directory,
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for stranger in &mut self.strangers {
            // It may have ended by itself.
            let _ = stranger.kill();
            let _ = stranger.wait();
        }
    }
}

#[test]
fn a_crowd_that_names_itself_is_cut_and_told_and_hides_nothing_of_a_real_activator() {
    let mut bed = Bed::new().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let activator = bed.activator("z", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let _crowd = Crowd::of(STRANGERS, &bed.network.system_namespace());
    let refused = [("statlink.refusal.reason", "too_many")];
    bed.collector
        .wait_for("statlink.clients.refused", &refused, PATIENCE, |point| {
            point.value.number() >= 100.0
        })
        .unwrap();
    let lines = bed.agent.as_ref().unwrap().process.lines();
    let told = lines
        .iter()
        .filter(|line| line.text.contains("too many others"));
    assert_eq!(told.count(), 1);

    let of_real = link(&activator.pod);
    bed.faults(&activator).reset_established().unwrap();
    bed.wait_error(&activator, "disconnect", "connection_reset", PATIENCE)
        .unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.errors("disconnect"), [("connection_reset", 1.0)]);
    assert_eq!(figures.connects, 2.0, "{figures:#?}");
    bed.collector.read(|exports| {
        let points = || exports.iter().flat_map(|export| &export.points);
        let overflow = points().find(|point| point.attributes.contains_key("otel.metric.overflow"));
        assert!(overflow.is_none(), "{overflow:#?}");
        let of_real = points().filter(|point| point.is(metric::CHECKS, &of_real));
        assert!(of_real.count() > 0);
    });
    bed.check_invariants().unwrap();
}
