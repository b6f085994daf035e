//! The test bed itself, without the agent: peers, faults, stand-ins and the Collector do what the
//! tests of the agent rely on. Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod cleanup;
mod collector;
mod faults_at_connect;
mod faults_when_connected;
mod knative_link;
mod stand_ins;
mod whole_node;

use std::time::Duration;

use statlink_tests::netns::{Network, Pod};

/// Long enough on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// A network with a client's pod and a server's.
fn two_pods() -> (Network, Pod, Pod) {
    let network = Network::new().unwrap();
    let client = network.pod("client").unwrap();
    let server = network.pod("server").unwrap();
    (network, client, server)
}
