//! Start, end, restart and absence of activators, agents and Collectors, in every order.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod activators;
mod agents;
mod collectors;
mod event_flood;
mod pinned;
mod pod_counts;
mod scrapes;
mod strangers;
mod succession;
mod unread_log;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use statlink_tests::{agent, netns::Namespace, scenario::Bed, wait};

/// Long enough on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// Options of an agent that exports counters soon after they change.
fn options(bed: &Bed) -> agent::Options {
    bed.agent_options().arg("--export-interval").arg("300ms")
}

/// Where an agent serves its health on request.
const HEALTH: &str = "127.0.0.1:18082";

fn get(namespace: &Namespace, path: &str) -> std::io::Result<String> {
    let request = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(HEALTH)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    namespace.run(request).unwrap()
}

/// Waits until a probe says that all is well.
#[track_caller]
fn wait_well(namespace: &Namespace, path: &str) {
    wait::until(path, PATIENCE, || {
        let answer = get(namespace, path).unwrap_or_default();
        Ok(answer.starts_with("HTTP/1.1 200").then_some(()))
    })
    .unwrap();
}
