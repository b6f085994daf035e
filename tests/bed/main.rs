//! The test bed itself, without the agent: peers, faults, stand-ins and the Collector are what
//! the tests of the agent take them for. Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod cleanup;
mod collector;
mod connect;
mod established;
mod link;
mod scenario;
mod stand_in;

use std::time::Duration;

use statlink_tests::netns::{Network, Pod};

/// Long enough on a busy machine; no test is about time.
const SOON: Duration = Duration::from_secs(10);

/// A network with a client's pod and a server's.
fn two_pods() -> (Network, Pod, Pod) {
    let network = Network::new().unwrap();
    let client = network.pod("client").unwrap();
    let server = network.pod("server").unwrap();
    (network, client, server)
}
