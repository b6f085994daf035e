//! The agent's options: the flags and variables, resolved and checked.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    discovery::{Selector, kubernetes::Settings as Kubernetes},
    kernel::Watch,
    telemetry::{
        config::Config as TelemetryConfig,
        logs::{Filter, Format},
    },
};

/// The options of `statlink run`, which `statlink check` tries.
#[derive(Debug)]
pub(crate) struct Options {
    /// What the kernel half watches.
    pub watch: Watch,
    /// Which processes are clients, and how they are named.
    pub selector: Selector,
    /// What to watch in the Kubernetes API; `None` to do without it.
    pub kubernetes: Option<Kubernetes>,
    /// Where the kernel half is pinned, to outlive the agent; `None`: it ends with it.
    pub pin_directory: Option<PathBuf>,
    /// Path of the control socket.
    pub socket: PathBuf,
    /// The directory in which an agent leaves its counts for its successor; `None` to leave
    /// nothing.
    pub state_dir: Option<PathBuf>,
    /// The address for `/healthz` and `/readyz`; `None` to serve neither.
    pub health_address: Option<SocketAddr>,
    /// The address for `/metrics`; `None` not to serve it.
    pub metrics_address: Option<SocketAddr>,
    /// Where and how to export.
    pub telemetry: TelemetryConfig,
    /// Which events are logged.
    pub log_filter: Filter,
    /// How they are printed.
    pub log_format: Format,
}
