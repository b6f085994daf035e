//! The test bed of statlink: one machine that behaves like a node with activators on it.
//!
//! - [`build`]: what is made of Go (Knative's own code as peers, the Collector), once
//! - [`netns`]: network namespaces as pods, on one node
//! - [`process`]: a program in a namespace, its JSON lines, its signals
//! - [`fault`]: what can be done to the link, and undone
//! - [`peer`]: both ends of the link, and their stand-ins
//! - [`names`]: the autoscaler's name, and who is asked for it
//! - [`service`]: a ClusterIP, as kube-proxy makes it
//! - [`sidecar`]: a proxy in the activator's pod
//! - [`collector`]: a real Collector, and what it was sent
//! - [`control_plane`]: a real Kubernetes API server without a node
//! - [`container`]: a pod's container, as far as the kernel knows
//! - [`policy`]: a policy that refuses connect() itself
//! - [`observe`]: what the kernel accounts to a process
//! - [`tcp`]: what the kernel counted in a network namespace
//! - [`agent`]: the `statlink` binary
//! - [`deploy`]: what is deployed, rendered
//! - [`cluster`]: a Kubernetes of one node, with Knative as it is deployed
//! - [`scenario`]: all of it in one [`scenario::Bed`]
//!
//! It needs root, iproute2, nftables and, for the first build, Go. Nothing of it outlives the
//! process: namespaces are removed on drop, on panic and on SIGINT or SIGTERM, and what a killed
//! run left is swept by the next; programs die with the thread that spawned them.

pub mod agent;
mod api_server;
pub mod build;
pub mod cluster;
pub mod collector;
pub mod container;
pub mod control_plane;
pub mod deploy;
pub mod fault;
pub mod figures;
pub mod names;
pub mod netns;
pub mod observe;
pub mod peer;
pub mod policy;
pub mod process;
pub mod scenario;
mod scratch;
pub mod service;
pub mod sidecar;
pub mod tcp;

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
