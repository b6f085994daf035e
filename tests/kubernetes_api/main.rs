//! What the agent learns from a real Kubernetes API: the names and ends of pods, the autoscaler's
//! addresses, and what it does while the API is unavailable.
//!
//! The API server is real. Of the node there are only the control groups that its kubelet would
//! make. The agent has only BPF and PERFMON, unless a test says otherwise: it cannot read the
//! environment of an activator, which runs as another user, so the API is all that it has.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod api_unavailable;
mod manifests;
mod pods_and_addresses;
mod strangers;
mod world;

use std::time::Duration;

/// Long enough on a busy machine for what usually takes less than a second.
const PATIENCE: Duration = Duration::from_secs(30);
