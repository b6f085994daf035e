//! On a real node: a kubelet's pods, Services by kube-proxy, Knative as it is deployed. Needs
//! root.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panic"
)]

mod agent;
mod up;

use std::time::Duration;

/// Long enough on a busy machine for a pod to come or go.
const SOON: Duration = Duration::from_secs(90);
