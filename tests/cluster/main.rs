//! On a real node: a kubelet's pods, Services by kube-proxy, Knative as it is deployed, and an
//! agent of each security profile beside the other. Needs root.
//!
//! Every scenario is asserted of both agents, at the Collector. A cluster takes half a minute to
//! start, so that those of one subject share one. What was told, and when, is printed as a table
//! at each test's end.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panic"
)]

mod activators;
mod autoscaler;
mod history;
mod network;
mod table;
mod told;
mod witness;
mod world;

use std::time::Duration;

/// Long enough on a busy machine for a pod to come or go.
const SOON: Duration = Duration::from_secs(90);
