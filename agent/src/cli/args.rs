//! Flags, their variables and what both accept.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::usage::{Origin, UsageError};
use crate::{
    discovery::{
        Selector,
        kubernetes::{self, Settings as Kubernetes},
    },
    kernel::{COMM_LEN, Watch},
    options::Options,
    peering::{Kind, Peering},
    telemetry::{
        config::{Config, DEFAULT_INTERVAL, INTERVALS, Overrides, Var},
        logs::{Filter, Format},
    },
};

/// Says from the kernel whether each Knative activator is connected to the autoscaler, and why not
///
/// When the websocket over which an activator sends its stats to the autoscaler breaks, services
/// stop scaling, and nothing says so. statlink watches that link with eBPF, from outside: the
/// activator is not modified. It reports over OTLP; `statlink status` shows the same at once.
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
    /// Run the agent, until SIGTERM
    ///
    /// Watches every activator of this node, and every autoscaler that forwards stats to others.
    /// Log lines go to standard output, metrics to an OpenTelemetry Collector. OpenTelemetry's own
    /// variables are honoured:
    /// OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL, _HEADERS, _CERTIFICATE, _CLIENT_CERTIFICATE,
    /// _CLIENT_KEY, _COMPRESSION, _TIMEOUT (each also as _METRICS_ and _LOGS_),
    /// OTEL_METRIC_EXPORT_INTERVAL, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME,
    /// OTEL_SDK_DISABLED, OTEL_METRICS_EXPORTER, OTEL_LOGS_EXPORTER.
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(Settings),
    /// Check whether the agent can do its work here
    ///
    /// Takes the flags of `statlink run`, tries everything for a moment (kernel, types, each hook,
    /// capabilities, processes, Collector, sockets), and leaves nothing behind. Says what is
    /// missing, what it is for, and the cure.
    #[command(after_long_help = CHECK_CODES)]
    Check {
        #[command(flatten)]
        settings: Settings,
        /// Print the findings as one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show every link that the running agent knows
    ///
    /// One line a link: state, since when, cause, where to, round-trip time, and how often it was
    /// checked, failed and connected. SINCE is empty where the connection is older than the agent.
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
    /// Tell what happens to the links, from now on
    ///
    /// One line each: discovered, connected, connect_failed, disconnected, unreachable, reachable,
    /// idle, ended.
    Events {
        #[command(flatten)]
        socket: SocketArg,
        /// Print one JSON object a line; `at` is when it happened, `known_at` when the agent knew
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
        /// Write the page of each command into this directory instead
        #[arg(long, value_name = "DIRECTORY")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct SocketArg {
    /// Control socket of the agent
    #[arg(long, env = "STATLINK_SOCKET", value_name = "PATH", default_value = SOCKET)]
    pub(super) socket: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Settings {
    #[command(flatten)]
    socket: SocketArg,

    /// Port on which the autoscaler accepts stats
    // Not --port: Kubernetes sets STATLINK_PORT=tcp://... in pods beside a Service `statlink`.
    #[arg(long, env = "STATLINK_PEER_PORT", value_name = "PORT", default_value_t = 8080,
          value_parser = port, help_heading = WATCHED)]
    peer_port: u16,

    /// Which links are watched, by who dials; several are separated by commas
    #[arg(long, env = "STATLINK_LINKS", value_name = "LINKS", value_enum, value_delimiter = ',',
          default_value = "activator,autoscaler-forwarder", help_heading = WATCHED)]
    links: Vec<Kind>,

    /// Value of the attribute `peer` of activators' links
    #[arg(long, env = "STATLINK_PEER", value_name = "NAME", default_value = Kind::Activator.row().peer,
          value_parser = not_empty, help_heading = WATCHED)]
    peer: String,

    /// Name of the activator's process, as in /proc/PID/comm; at most 15 bytes
    #[arg(long, env = "STATLINK_PROCESS_NAME", value_name = "NAME", 
          default_value = Kind::Activator.row().process_name, value_parser = process_name, help_heading = WATCHED)]
    process_name: String,

    /// Variable in the environment of who dials that names its pod
    #[arg(long, env = "STATLINK_POD_NAME_ENV", value_name = "VARIABLE",
          default_value = "POD_NAME", value_parser = variable, help_heading = WATCHED)]
    pod_name_env: String,

    /// Variable in the environment of who dials that names its namespace
    #[arg(long, env = "STATLINK_NAMESPACE_ENV", value_name = "VARIABLE",
          default_value = "SYSTEM_NAMESPACE", value_parser = variable, help_heading = WATCHED)]
    namespace_env: String,

    /// Only pods of this namespace [default: any; knative-serving with the Kubernetes API]
    #[arg(long, env = "STATLINK_NAMESPACE", value_name = "NAME",
          value_parser = not_empty, help_heading = WATCHED)]
    namespace: Option<String>,

    /// Whether to ask the Kubernetes API who is who
    #[arg(long, env = "STATLINK_KUBERNETES", value_name = "WHEN", value_enum,
          default_value_t, help_heading = KUBERNETES,
          long_help = "Whether to ask the Kubernetes API who is who. It tells pods that are \
              terminating, and the addresses of the autoscaler; with it, the agent needs neither \
              CAP_SYS_PTRACE nor the activators' environment")]
    kubernetes: When,

    /// Which pods are activators
    #[arg(long, env = "STATLINK_POD_SELECTOR", value_name = "SELECTOR",
          default_value = Kind::Activator.row().pod_selector, value_parser = not_empty, help_heading = KUBERNETES)]
    pod_selector: String,

    /// Name of the activator's container; other containers of its pod are sidecars
    #[arg(long, env = "STATLINK_CONTAINER", value_name = "NAME",
          default_value = Kind::Activator.row().container, value_parser = not_empty, help_heading = KUBERNETES)]
    container: String,

    /// Name of the autoscaler's Service
    #[arg(long, env = "STATLINK_SERVICE", value_name = "NAME",
          default_value = "autoscaler", value_parser = not_empty, help_heading = KUBERNETES)]
    service: String,

    /// Base URL of the Collector, before any OTEL_EXPORTER_OTLP_ENDPOINT
    /// [default: http://localhost:4317]
    #[arg(long, env = "STATLINK_OTLP_ENDPOINT", value_name = "URL", help_heading = EXPORTED)]
    otlp_endpoint: Option<String>,

    /// Time between exports when nothing happens; a transition is exported at once
    #[arg(long, env = "STATLINK_EXPORT_INTERVAL", value_name = "DURATION",
          value_parser = interval, help_heading = EXPORTED,
          long_help = format!("Time between exports when nothing happens, such as 10s or 500ms; \
              a transition is exported at once [default: OTEL_METRIC_EXPORT_INTERVAL, or {}]",
              humantime::format_duration(DEFAULT_INTERVAL)))]
    export_interval: Option<Duration>,

    /// Export log events over OTLP too, as OTEL_LOGS_EXPORTER=otlp does
    #[arg(long, env = "STATLINK_OTLP_LOGS", help_heading = EXPORTED)]
    otlp_logs: bool,

    /// This node's name in Kubernetes, and value of the resource attribute k8s.node.name
    #[arg(long, env = "STATLINK_NODE_NAME", value_name = "NAME", help_heading = EXPORTED)]
    node_name: Option<String>,

    /// Value of the resource attribute k8s.cluster.name
    #[arg(long, env = "STATLINK_CLUSTER_NAME", value_name = "NAME", help_heading = EXPORTED)]
    cluster_name: Option<String>,

    /// Address to serve /healthz and /readyz on, such as 0.0.0.0:8082 [default: none]
    #[arg(long, env = "STATLINK_HEALTH_ADDRESS", value_name = "ADDRESS:PORT",
          value_parser = address, help_heading = ITSELF)]
    health_address: Option<SocketAddr>,

    /// What is logged: a level (error, warn, info, debug, trace, off) or target=level,target=level
    #[arg(long, env = "STATLINK_LOG", value_name = "FILTER", default_value = "info",
          value_parser = filter, help_heading = ITSELF)]
    log: String,

    /// How it is logged
    #[arg(long, env = "STATLINK_LOG_FORMAT", value_name = "FORMAT", value_enum,
          default_value_t, help_heading = ITSELF)]
    log_format: Format,
}

/// When to ask the Kubernetes API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum When {
    /// In a pod that knows its node's name
    #[default]
    Auto,
    /// Always
    On,
    /// Never
    Off,
}

impl Settings {
    /// What to ask the API for, if it is to be asked.
    fn kubernetes(&self) -> anyhow::Result<Option<Kubernetes>> {
        let node = match (self.kubernetes, &self.node_name) {
            (When::Off, _) => return Ok(None),
            (When::Auto, node) if node.is_none() || !kubernetes::in_cluster() => return Ok(None),
            (When::On | When::Auto, Some(node)) => node.clone(),
            (When::On | When::Auto, None) => return Err(UsageError::new(NO_NODE).into()),
        };
        Ok(Some(Kubernetes {
            namespace: self
                .namespace
                .clone()
                .unwrap_or_else(|| KNATIVE_SERVING.to_owned()),
            node,
            peerings: self.peerings(),
            service: self.service.clone(),
        }))
    }

    /// The kinds of links to watch, each once.
    fn peerings(&self) -> Vec<Peering> {
        let mut peerings = Vec::new();
        for kind in &self.links {
            let peering = match kind {
                Kind::Activator => Peering {
                    peer: self.peer.clone(),
                    process_name: self.process_name.clone(),
                    pod_selector: self.pod_selector.clone(),
                    container: self.container.clone(),
                    ..kind.peering()
                },
                Kind::AutoscalerForwarder => kind.peering(),
            };
            if !peerings.contains(&peering) {
                peerings.push(peering);
            }
        }
        peerings
    }

    /// What the agent is to do; OpenTelemetry's variables are read here.
    pub(super) fn options(self, origin: &Origin) -> anyhow::Result<Options> {
        let kubernetes = self.kubernetes()?;
        let peerings = self.peerings();
        let name = rustix::system::uname();
        let overrides = Overrides {
            endpoint: self.otlp_endpoint.map(|value| Var {
                name: origin.of("otlp_endpoint"),
                value,
            }),
            interval: self.export_interval,
            logs: self.otlp_logs,
            node_name: self.node_name,
            cluster_name: self.cluster_name,
            instance_id: None,
            service_version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: name.nodename().to_str().ok().map(str::to_owned),
        };
        let telemetry = Config::read(&|name| std::env::var(name).ok(), &overrides)?;
        Ok(Options {
            watch: Watch {
                port: self.peer_port,
                process_names: peerings.iter().map(|of| of.process_name.clone()).collect(),
            },
            selector: Selector {
                peerings,
                pod_name_env: self.pod_name_env,
                namespace_env: self.namespace_env,
                namespace: self
                    .namespace
                    .or_else(|| Some(kubernetes.as_ref()?.namespace.clone())),
            },
            kubernetes,
            socket: self.socket.socket,
            health_address: self.health_address,
            telemetry,
            log_filter: self.log.parse()?,
            log_format: self.log_format,
        })
    }
}

fn port(value: &str) -> Result<u16, &'static str> {
    match value.parse() {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => Err("expected a port, 1 to 65535"),
    }
}

fn not_empty(value: &str) -> Result<String, &'static str> {
    if value.trim().is_empty() {
        return Err("expected a name that is not empty");
    }
    Ok(value.to_owned())
}

fn process_name(value: &str) -> Result<String, String> {
    // The kernel keeps no more of it, and a NUL.
    let longest = COMM_LEN - 1;
    if value.is_empty() || value.len() > longest || value.contains('\0') {
        return Err(format!(
            "expected the name in /proc/PID/comm, 1 to {longest} bytes long"
        ));
    }
    Ok(value.to_owned())
}

fn variable(value: &str) -> Result<String, &'static str> {
    if value.is_empty() || value.contains(['=', '\0']) {
        return Err("expected the name of an environment variable");
    }
    Ok(value.to_owned())
}

fn interval(value: &str) -> Result<Duration, String> {
    humantime::parse_duration(value)
        .ok()
        .filter(|interval| INTERVALS.contains(interval))
        .ok_or_else(|| {
            format!(
                "expected a duration from {} to {}, such as 10s or 500ms",
                humantime::format_duration(*INTERVALS.start()),
                humantime::format_duration(*INTERVALS.end())
            )
        })
}

fn address(value: &str) -> Result<SocketAddr, &'static str> {
    value
        .parse()
        .map_err(|_| "expected an IP address and a port, such as 0.0.0.0:8082 or [::]:8082")
}

fn filter(value: &str) -> Result<String, String> {
    let parsed: Result<Filter, _> = value.parse();
    parsed
        .map(|_| value.to_owned())
        .map_err(|error| error.to_string())
}

const SOCKET: &str = "/run/statlink/statlink.sock";
const WATCHED: &str = "What is watched";
const KUBERNETES: &str = "Kubernetes";
const KNATIVE_SERVING: &str = "knative-serving";
const NO_NODE: &str = "--kubernetes=on: needs this node's name, to watch its pods alone; set \
     STATLINK_NODE_NAME from spec.nodeName, or --node-name";
const EXPORTED: &str = "What is exported";
const ITSELF: &str = "The agent itself";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  a flag or variable is not of the accepted form, or names what cannot be had
  3  the kernel lacks what the agent cannot do without, or withholds it";

const CHECK_CODES: &str = "\
Exit codes:
  0  the agent can work here; there may be warnings
  1  something does not work
  2  a flag or variable is not of the accepted form, or names what cannot be had
  3  the kernel lacks what the agent cannot do without, or withholds it";

const RUN_EXAMPLES: &str = "\
Examples:
  statlink run --otlp-endpoint http://collector.observability:4317
  OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf statlink run --otlp-endpoint http://collector:4318
  statlink run --log-format text --log debug

Exit codes:
  0  stopped by SIGTERM or SIGINT, what was left exported
  1  failed
  2  a flag or variable is not of the accepted form, or names what cannot be had
  3  the kernel lacks what the agent cannot do without, or withholds it";
