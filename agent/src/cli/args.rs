//! The commands, and the help that teaches them.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use super::{
    cluster::{Access, ClusterCommand},
    settings::{Settings, SocketArg},
};

/// Watches from the kernel whether each Knative activator is connected to the autoscaler
///
/// When the websocket over which an activator sends its stats to the autoscaler breaks, services
/// stop scaling, and nothing reports it. statlink watches that connection with eBPF, from outside:
/// the activator is not modified. It reports over OTLP whether the link is up, how often it failed,
/// and why. `statlink status` shows the same right away.
#[derive(Debug, Parser)]
#[command(
    name = "statlink",
    version,
    arg_required_else_help = false,
    after_long_help = EXIT_CODES,
    max_term_width = 100
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the agent until SIGTERM
    ///
    /// Watches every activator on this node, and every autoscaler that forwards stats to others.
    /// Prints log lines to standard output and exports metrics to an OpenTelemetry Collector.
    /// OpenTelemetry's own variables apply: OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL, _HEADERS,
    /// _CERTIFICATE, _CLIENT_CERTIFICATE, _CLIENT_KEY, _COMPRESSION, _TIMEOUT (each also as _METRICS_
    /// and _LOGS_), OTEL_METRIC_EXPORT_INTERVAL, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME,
    /// OTEL_SDK_DISABLED, OTEL_METRICS_EXPORTER, OTEL_LOGS_EXPORTER.
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(Settings),
    /// Check whether the agent can work on this machine
    ///
    /// Takes the flags of `statlink run`. Tries everything for a moment (kernel, types, each hook,
    /// capabilities, Kubernetes API, processes, Collector, sockets) and leaves nothing behind. Prints
    /// what is missing, what it is needed for, and what to do.
    #[command(after_long_help = CHECK_HELP)]
    Check {
        #[command(flatten)]
        settings: Settings,
        /// Print the findings as one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show every link that the running agent knows
    ///
    /// One line for each link: its state, since when, the cause, the peer's address, round-trip
    /// time, and how many checks, errors and connects it had. SINCE is empty if the connection is
    /// older than the agent. The states are reachable, unreachable, unknown (the agent cannot tell),
    /// starting (not judged in its first 5 s) and idle (a forwarder with nobody to forward to).
    #[command(after_long_help = STATUS_EXAMPLES)]
    Status {
        #[command(flatten)]
        socket: SocketArg,
        /// Print one JSON document; times in seconds
        #[arg(long)]
        json: bool,
        /// Show it again every second
        #[arg(long, short)]
        watch: bool,
    },
    /// Print what happens to the links, as it happens
    ///
    /// One line for each event: discovered, connected, connect_failed, disconnected, unreachable,
    /// reachable, unknown, idle, ended.
    #[command(after_long_help = EVENTS_EXAMPLES)]
    Events {
        #[command(flatten)]
        socket: SocketArg,
        /// Print one JSON object a line; `at` is when it happened, `known_at` when the agent knew
        #[arg(long)]
        json: bool,
    },
    /// Ask all agents of a cluster at once: status, events, check, why, dump
    ///
    /// From anywhere that kubectl works, with your own kubeconfig and rights (list pods, exec into the
    /// agents' pods, read their logs). Under the name kubectl-statlink on your PATH it is
    /// `kubectl statlink`.
    #[command(after_long_help = CLUSTER_EXAMPLES)]
    Cluster {
        #[command(flatten)]
        access: Access,
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Remove what outlives the agents of this node: pinned programs and maps
    ///
    /// Ends what `statlink run --pin-directory` leaves in the kernel when it stops, and removes nothing
    /// else. A running agent goes on; what it has attached then ends with it. Once more does no harm.
    #[command(after_long_help = UNINSTALL_EXAMPLES)]
    Uninstall {
        /// The agents' --pin-directory
        #[arg(
            long,
            env = "STATLINK_PIN_DIRECTORY",
            value_name = "DIRECTORY",
            default_value = "/sys/fs/bpf/statlink"
        )]
        pin_directory: PathBuf,
        /// Print what was removed as one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example: statlink completions bash > /etc/bash_completion.d/statlink")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    #[command(after_help = "Example: statlink man | man -l -")]
    Man {
        /// Write one page for each command into this directory instead
        #[arg(long, value_name = "DIRECTORY")]
        output: Option<PathBuf>,
    },
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  a flag or variable has a value that is not accepted or cannot be used
  3  the kernel lacks or denies what the agent cannot do without";

const RUN_EXAMPLES: &str = "\
Examples:
  statlink run --otlp-endpoint http://collector.observability:4317
  OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf statlink run --otlp-endpoint http://collector:4318
  statlink run --log-format text --log debug

Exit codes:
  0  stopped by SIGTERM or SIGINT, after a last export
  1  failed
  2  a flag or variable has a value that is not accepted or cannot be used
  3  the kernel lacks or denies what the agent cannot do without";

const CHECK_HELP: &str = "\
Example:
  statlink check --otlp-endpoint http://collector.observability:4317

Exit codes:
  0  the agent can work here; there may be warnings
  1  something does not work
  2  a flag or variable has a value that is not accepted or cannot be used
  3  the kernel lacks or denies what the agent cannot do without";

const STATUS_EXAMPLES: &str = "\
Examples:
  statlink status --watch
  statlink status --json | jq '.links[] | select(.state == \"unreachable\")'";

const EVENTS_EXAMPLES: &str = "\
Examples:
  statlink events
  statlink events --json | jq 'select(.event == \"unreachable\")'";

const UNINSTALL_EXAMPLES: &str = "\
Examples:
  statlink uninstall
  kubectl exec -n observability statlink-x2x4z -- statlink uninstall --json

Exit codes:
  0  nothing of statlink's is pinned any more
  1  something could not be removed
  2  a flag or variable has a value that is not accepted or cannot be used";

const CLUSTER_EXAMPLES: &str = "\
Examples:
  kubectl statlink status
  kubectl statlink why activator-5d4f8c9b7-x2x4z
  kubectl statlink events --json | jq 'select(.event == \"unreachable\")'
  kubectl statlink dump --namespace observability

Exit codes:
  0  all is well
  1  an agent does not answer, a link is cut off, or something does not work
  2  a flag has a value that is not accepted
  3  of check: a node's kernel lacks or denies what the agent cannot do without";
