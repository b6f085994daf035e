//! The lives of activators, agents and Collectors: who comes first, who ends, who is away.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod activators;
mod agents;
mod collectors;
mod flood;

use std::time::Duration;

use statlink_tests::{agent, scenario::Bed};

/// Long enough on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// Of an agent whose counters arrive soon after they change.
fn options(bed: &Bed) -> agent::Options {
    bed.agent_options().arg("--export-interval").arg("300ms")
}
