//! Each cause, injected into Knative's own client and server (or, where their client cannot
//! produce it, a dialler of ours), and asserted at a real Collector and in the agent's log.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod campaign;
mod dialling;
mod flapping;
mod forwarding;
mod hops;
mod losing;
mod names;
mod retransmits;
mod stand_ins;
mod told;
mod ways;

use std::time::Duration;

use statlink_tests::scenario::Bed;

/// Long enough on a busy machine, and for Knative's longest pause between two dials.
const PATIENCE: Duration = Duration::from_secs(40);

/// Starts the agent on `bed` so that counters arrive soon after they change.
fn start_agent(bed: &mut Bed) {
    let options = bed.agent_options().arg("--export-interval").arg("300ms");
    bed.start_agent_with(&options).unwrap();
}
