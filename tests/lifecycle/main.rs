//! Start, end, restart and absence of activators, agents and Collectors, in every order.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod activators;
mod agents;
mod collectors;
mod event_flood;
mod pod_counts;
mod scrapes;
mod strangers;
mod succession;
mod unread_log;

use std::time::Duration;

use statlink_tests::{agent, scenario::Bed};

/// Long enough on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// Options of an agent that exports counters soon after they change.
fn options(bed: &Bed) -> agent::Options {
    bed.agent_options().arg("--export-interval").arg("300ms")
}
