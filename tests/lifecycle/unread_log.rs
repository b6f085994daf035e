//! A log that nobody reads: the agent keeps running, and can end.

use std::{
    fs,
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use statlink_tests::{agent, peer::Traffic, scenario::Bed, wait};

use crate::PATIENCE;

#[test]
fn a_log_that_is_not_read_stops_neither_the_loop_nor_the_end() {
    let bed = Bed::new().unwrap();
    let mut activator = bed.activator("activator", Traffic::Idle).unwrap();
    activator.wait_connected(PATIENCE).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let options = bed.agent_options();
    let mut command = agent::command(options.namespace.as_ref()).unwrap();
    command
        .args(["run", "--export-interval", "200ms"])
        .args(["--namespace", &activator.pod.system_namespace])
        // The libraries of the exports soon fill a pipe.
        .args(["--log", "h2=trace,hyper_util=trace,tonic=trace", "--socket"])
        .arg(directory.path().join("status.sock"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", options.endpoint.unwrap())
        .stdout(Stdio::piped());
    let mut agent = Killed(command.spawn().unwrap());

    // The pipe is full: a thread that writes to it waits there.
    wait::until("thread that waits for the pipe", PATIENCE, || {
        Ok(agent.waits_in("pipe_write").then_some(()))
    })
    .unwrap();
    bed.faults(&activator).reset_established().unwrap();
    bed.wait_error(&activator, "disconnect", "connection_reset", PATIENCE)
        .unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    assert!(agent.waits_in("pipe_write"), "somebody has read the log");

    agent.terminate();
    assert_eq!(agent.0.wait().unwrap().code(), Some(0));
}

/// A child that does not outlive the test.
struct Killed(Child);

impl Killed {
    /// Whether one of its threads waits in this function of the kernel.
    fn waits_in(&self, function: &str) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id()));
        let mut tasks = tasks.into_iter().flatten().flatten();
        tasks.any(|task| {
            let waits = fs::read_to_string(task.path().join("wchan"));
            waits.is_ok_and(|place| place.contains(function))
        })
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
