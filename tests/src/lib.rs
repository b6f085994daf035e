//! The test bed of statlink: one machine that behaves like a node with activators on it.
//!
//! - [`scenario`]: a whole node in one value, [`scenario::Bed`]. Most tests begin there.
//! - [`netns`]: network namespaces as pods, on one node
//! - [`peer`]: activators and autoscalers (Knative's own code), and their stand-ins
//! - [`agent`]: the `statlink` binary
//! - [`collector`]: a real Collector, and everything that it received
//! - [`figures`]: the newest metrics of one link
//! - [`fault`]: faults of a link, injected and healed
//! - [`policy`]: a policy that makes connect() itself fail
//! - [`names`]: the autoscaler's name, and name servers
//! - [`service`]: a ClusterIP, as kube-proxy makes it
//! - [`sidecar`]: a proxy in the activator's pod
//! - [`container`]: a pod's container, as the kernel knows it
//! - [`control_plane`]: a real Kubernetes API server without a node
//! - [`cluster`]: a Kubernetes of one node, with the real Knative
//! - [`deploy`]: the Helm chart and the Kustomize base, rendered
//! - [`prometheus`]: a real Prometheus, with the rules
//! - [`dashboards`]: the dashboards, in a real browser
//! - [`process`]: a program in a namespace, its JSON lines, its signals
//! - [`wait`]: waiting for a condition
//! - [`bpffs`]: where agents pin what outlives them
//! - [`observe`]: CPU time and memory of a process
//! - [`tcp`]: the kernel's TCP counters of a network namespace
//! - [`mock_api`]: a Kubernetes API that lists given objects
//! - [`prototypes`]: the arguments of the running kernel's functions and tracepoints
//! - [`build`]: builds the parts that are written in Go, once
//!
//! It needs root, iproute2, nftables and, for the first build, Go. Nothing outlives the process:
//! namespaces are removed on drop, on panic and on SIGINT or SIGTERM, and the next run removes what
//! a killed run left. Programs die with the thread that spawned them.
//!
//! # Errors
//!
//! A function that returns a `Result` fails if the machine, a program or a peer does not do what
//! the function's name says; the error names which, and ends the test.
#![expect(
    clippy::missing_errors_doc,
    reason = "said above for all: nobody tells one from another"
)]

pub mod agent;
mod api_server;
pub mod bpffs;
pub mod build;
pub mod cluster;
pub mod collector;
pub mod container;
pub mod control_plane;
pub mod dashboards;
pub mod deploy;
pub mod fault;
pub mod figures;
pub mod mock_api;
pub mod names;
pub mod netns;
pub mod observe;
pub mod peer;
pub mod policy;
pub mod process;
pub mod prometheus;
pub mod prototypes;
pub mod scenario;
mod scratch;
pub mod service;
pub mod sidecar;
pub mod tcp;
pub mod wait;

use std::time::{SystemTime, UNIX_EPOCH};

/// Prints one JSON line as the Go peers do: `{"time":<Unix seconds>,"event":name, ...}`.
pub fn report<const N: usize>(name: &str, fields: [(&str, serde_json::Value); N]) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut line = serde_json::json!({ "time": now.as_secs_f64(), "event": name });
    if let Some(line) = line.as_object_mut() {
        line.extend(fields.map(|(key, value)| (key.to_owned(), value)));
    }
    println!("{line}");
}
