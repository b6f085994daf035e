//! On a real node: a kubelet's pods, Services by kube-proxy, Knative as it is deployed, and an agent
//! of each security profile side by side. Needs root.
//!
//! Every scenario is asserted of both agents, at the Collector. A cluster takes half a minute to
//! start, so all scenarios of one subject share one. Each test ends with a table of what the agents
//! reported in each scenario, and when.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panic"
)]

mod activator_sockets;
mod activators;
mod agent_exports;
mod autoscaler;
mod expectations;
mod kubectl_plugin;
mod network;
mod result_table;
mod world;

use std::time::Duration;

/// Long enough on a busy machine for a pod to come or go.
const SOON: Duration = Duration::from_secs(90);
