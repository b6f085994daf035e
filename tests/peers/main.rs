//! Each cause of an outage, injected between Knative's own client and server, and asserted at a
//! real Collector and in the agent's log. If Knative's client cannot produce it, the test client
//! does.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod agent_log;
mod campaign;
mod failed_dials;
mod flapping;
mod lost_connections;
mod name_lookups;
mod refused_upgrades;
mod retransmits;
mod sidecar_proxies;
mod stat_forwarding;
mod test_client;
mod two_families;

use std::time::Duration;

use statlink_tests::scenario::Bed;

/// Long enough on a busy machine, and for Knative's longest pause between two dials, 20 s.
const PATIENCE: Duration = Duration::from_secs(40);

/// Starts an agent on `bed` that exports counters soon after they change.
fn start_agent(bed: &mut Bed) {
    let options = bed.agent_options().arg("--export-interval").arg("300ms");
    bed.start_agent_with(&options).unwrap();
}
