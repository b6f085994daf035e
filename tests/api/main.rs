//! Who is who by a real Kubernetes API: names, ends, addresses, and what happens while it is away.
//!
//! The API server is real; of a node there are only the control groups that its kubelet would
//! make. The agent has BPF and PERFMON alone, unless a test says otherwise: it cannot read an
//! activator's environment, so what it knows it knows from the API.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod manifests;
mod names;
mod outages;
mod world;

use std::time::Duration;

/// For what takes well below a second when all is well, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
