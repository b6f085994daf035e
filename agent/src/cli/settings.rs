//! The flags of `run` and `check`, and what they resolve to.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    usage::{Origin, UsageError},
    values::{address, expanded, filter, interval, not_empty, port, process_name, variable},
};
use crate::{
    discovery::{
        Selector,
        kubernetes::{self, Settings as Kubernetes},
    },
    kernel::{ConnectHook, Watch},
    link_kind::{ACTIVATOR, BuiltinLinkKind, LinkKind},
    options::Options,
    telemetry::{
        config::{Config, DEFAULT_INTERVAL, Overrides, Var},
        logs::Format,
    },
};

#[derive(Debug, Args)]
pub(super) struct SocketArg {
    /// Control socket of the agent
    #[arg(
        long,
        env = "STATLINK_SOCKET",
        value_name = "PATH",
        default_value = "/run/statlink/statlink.sock"
    )]
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

    /// Which links to watch, separated by commas
    #[arg(long, env = "STATLINK_LINKS", value_name = "LINKS", value_enum, value_delimiter = ',',
          default_value = "activator,autoscaler-forwarder", help_heading = WATCHED)]
    links: Vec<BuiltinLinkKind>,

    /// Value of the attribute `peer` for activators' links
    #[arg(long, env = "STATLINK_PEER", value_name = "NAME", default_value = &*ACTIVATOR.peer,
          value_parser = not_empty, help_heading = WATCHED)]
    peer: String,

    /// Name of the activator's process, as in /proc/PID/comm; at most 15 bytes
    #[arg(long, env = "STATLINK_PROCESS_NAME", value_name = "NAME",
          default_value = &*ACTIVATOR.process_name, value_parser = process_name, help_heading = WATCHED)]
    process_name: String,

    /// Environment variable of an activator or autoscaler that holds its pod's name
    #[arg(long, env = "STATLINK_POD_NAME_ENV", value_name = "VARIABLE",
          default_value = "POD_NAME", value_parser = variable, help_heading = WATCHED)]
    pod_name_env: String,

    /// Environment variable of an activator or autoscaler that holds its namespace
    #[arg(long, env = "STATLINK_NAMESPACE_ENV", value_name = "VARIABLE",
          default_value = "SYSTEM_NAMESPACE", value_parser = variable, help_heading = WATCHED)]
    namespace_env: String,

    /// Watch only pods of this namespace [default: any; knative-serving with the Kubernetes API]
    #[arg(long, env = "STATLINK_NAMESPACE", value_name = "NAME",
          value_parser = not_empty, help_heading = WATCHED)]
    namespace: Option<String>,

    /// By which hooks to see connect()
    #[arg(long, env = "STATLINK_CONNECT_HOOK", value_name = "WAY", value_enum,
          default_value_t, help_heading = WATCHED,
          long_help = "By which hooks to see connect(): attempts that fail before a SYN, refusals by \
              ICMP, and name lookups. fexit slows down connect() alone. The tracepoints need tracefs, \
              and make each system call of every process of the node about 40 ns slower")]
    connect_hook: ConnectHook,

    /// Whether to use the Kubernetes API
    #[arg(long, env = "STATLINK_KUBERNETES", value_name = "WHEN", value_enum,
          default_value_t, help_heading = KUBERNETES,
          long_help = "Whether to use the Kubernetes API. It names the activators, says which pods \
              are terminating, and lists the autoscaler's addresses. With it, the agent needs \
              neither CAP_SYS_PTRACE nor the activators' environment")]
    kubernetes: UseKubernetes,

    /// Label selector of the activators' pods
    #[arg(long, env = "STATLINK_POD_SELECTOR", value_name = "SELECTOR",
          default_value = &*ACTIVATOR.pod_selector, value_parser = not_empty, help_heading = KUBERNETES)]
    pod_selector: String,

    /// Name of the activator's container; other containers of its pod are sidecars
    #[arg(long, env = "STATLINK_CONTAINER", value_name = "NAME",
          default_value = &*ACTIVATOR.container, value_parser = not_empty, help_heading = KUBERNETES)]
    container: String,

    /// Name of the autoscaler's Service
    #[arg(long, env = "STATLINK_SERVICE", value_name = "NAME",
          default_value = "autoscaler", value_parser = not_empty, help_heading = KUBERNETES)]
    service: String,

    /// Base URL of the Collector; takes precedence over OTEL_EXPORTER_OTLP_ENDPOINT
    /// [default: http://localhost:4317]
    #[arg(long, env = "STATLINK_OTLP_ENDPOINT", value_name = "URL", help_heading = EXPORTED)]
    otlp_endpoint: Option<String>,

    /// Time between exports while nothing changes; a transition is exported at once
    #[arg(long, env = "STATLINK_EXPORT_INTERVAL", value_name = "DURATION",
          value_parser = interval, help_heading = EXPORTED,
          long_help = format!("Time between exports while nothing changes, such as 10s or 500ms; \
              a transition is exported at once [default: OTEL_METRIC_EXPORT_INTERVAL, or {}]",
              humantime::format_duration(DEFAULT_INTERVAL)))]
    export_interval: Option<Duration>,

    /// Export log events over OTLP too, like OTEL_LOGS_EXPORTER=otlp
    #[arg(long, env = "STATLINK_OTLP_LOGS", help_heading = EXPORTED)]
    otlp_logs: bool,

    /// Address to serve /metrics on, for a Prometheus that scrapes, such as 0.0.0.0:9464 [default: none]
    #[arg(long, env = "STATLINK_METRICS_ADDRESS", value_name = "ADDRESS:PORT",
          value_parser = address, help_heading = EXPORTED,
          long_help = "Address to serve /metrics on, for a Prometheus that scrapes, such as 0.0.0.0:9464 \
              [default: none]. What is exported over OTLP is exported all the same; with \
              OTEL_METRICS_EXPORTER=none nothing is")]
    metrics_address: Option<SocketAddr>,

    /// This node's name in Kubernetes; also the resource attribute k8s.node.name
    #[arg(long, env = "STATLINK_NODE_NAME", value_name = "NAME",
          value_parser = expanded, help_heading = EXPORTED)]
    node_name: Option<String>,

    /// The resource attribute k8s.cluster.name
    #[arg(long, env = "STATLINK_CLUSTER_NAME", value_name = "NAME",
          value_parser = expanded, help_heading = EXPORTED)]
    cluster_name: Option<String>,

    /// Directory in which a killed agent leaves its successor what it counted [default: none]
    #[arg(long, env = "STATLINK_STATE_DIR", value_name = "DIRECTORY", help_heading = EXPORTED,
          long_help = "Directory in which an agent leaves its successor what it counted and which \
              outages are under way, so that counters go on instead of beginning at 0. It has to \
              outlive the agent's process, and need not outlive a boot: an emptyDir volume serves \
              restarts of the container, a directory of the node in /run upgrades too [default: none]")]
    state_dir: Option<PathBuf>,

    /// Directory in a bpffs where the kernel half outlives the agent, such as /sys/fs/bpf/statlink [default: none]
    #[arg(long, env = "STATLINK_PIN_DIRECTORY", value_name = "DIRECTORY", help_heading = ITSELF,
          long_help = "Directory in a bpffs where the programs and maps of the kernel half are pinned, such as \
              /sys/fs/bpf/statlink. They go on while no agent runs, and the next agent goes on with them: what \
              happened meanwhile is told with its own time. How far that is told is left in --state-dir, so that \
              is needed as well. The directory is made if it is not there; without a bpffs the agent warns and \
              runs without. Before you remove the agent for good, run `statlink uninstall` on each node \
              [default: none]")]
    pin_directory: Option<PathBuf>,

    /// Address to serve /healthz and /readyz on, such as 0.0.0.0:8082 [default: none]
    #[arg(long, env = "STATLINK_HEALTH_ADDRESS", value_name = "ADDRESS:PORT",
          value_parser = address, help_heading = ITSELF)]
    health_address: Option<SocketAddr>,

    /// What to log: a level (error, warn, info, debug, trace, off) or target=level,target=level
    #[arg(long, env = "STATLINK_LOG", value_name = "FILTER", default_value = "info",
          value_parser = filter, help_heading = ITSELF)]
    log: String,

    /// How to print log events
    #[arg(long, env = "STATLINK_LOG_FORMAT", value_name = "FORMAT", value_enum,
          default_value_t, help_heading = ITSELF)]
    log_format: Format,
}

/// When to use the Kubernetes API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum UseKubernetes {
    /// In a pod with a ServiceAccount, if the node's name is given
    #[default]
    Auto,
    /// Always
    On,
    /// Never
    Off,
}

impl Settings {
    /// Resolves the flags and OpenTelemetry's variables.
    ///
    /// # Errors
    ///
    /// If a value of a variable is not accepted, or values do not go together.
    pub(super) fn options(self, origin: &Origin) -> anyhow::Result<Options> {
        let kubernetes = self.kubernetes()?;
        if self.pin_directory.is_some() && self.state_dir.is_none() {
            let flag = origin.of("pin_directory");
            return Err(UsageError::new(format!("{flag}: {NO_STATE}")).into());
        }
        let kinds = self.kinds();
        let system = rustix::system::uname();
        let overrides = Overrides {
            endpoint: self.otlp_endpoint.map(|value| Var {
                name: origin.of("otlp_endpoint"),
                value,
            }),
            interval: self.export_interval,
            logs: self.otlp_logs,
            page: self.metrics_address.is_some(),
            node_name: self.node_name,
            cluster_name: self.cluster_name,
            service_version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: system.nodename().to_str().ok().map(str::to_owned),
        };
        let telemetry = Config::read(&|name| std::env::var(name).ok(), &overrides)?;
        Ok(Options {
            watch: Watch {
                port: self.peer_port,
                process_names: kinds
                    .iter()
                    .map(|kind| kind.process_name.clone().into_owned())
                    .collect(),
                connect_hook: self.connect_hook,
            },
            selector: Selector {
                kinds,
                pod_name_env: self.pod_name_env,
                namespace_env: self.namespace_env,
                namespace: self
                    .namespace
                    .or_else(|| Some(kubernetes.as_ref()?.namespace.clone())),
            },
            kubernetes,
            pin_directory: self.pin_directory,
            socket: self.socket.socket,
            state_dir: self.state_dir,
            health_address: self.health_address,
            metrics_address: self.metrics_address,
            telemetry,
            log_filter: self.log.parse()?,
            log_format: self.log_format,
        })
    }

    /// What to watch in the Kubernetes API, if it is to be used.
    fn kubernetes(&self) -> Result<Option<Kubernetes>, UsageError> {
        let node = match (self.kubernetes, &self.node_name) {
            (UseKubernetes::Off, _) => return Ok(None),
            (UseKubernetes::Auto, node) if node.is_none() || !kubernetes::in_cluster() => {
                return Ok(None);
            }
            (UseKubernetes::On | UseKubernetes::Auto, Some(node)) => node.clone(),
            (UseKubernetes::On | UseKubernetes::Auto, None) => {
                return Err(UsageError::new(NO_NODE));
            }
        };
        let namespace = self.namespace.as_deref().unwrap_or(KNATIVE_SERVING);
        Ok(Some(Kubernetes {
            namespace: namespace.to_owned(),
            node,
            kinds: self.kinds(),
            service: self.service.clone(),
        }))
    }

    /// The kinds of link to watch, each once.
    fn kinds(&self) -> Vec<LinkKind> {
        let mut kinds = Vec::new();
        for builtin in &self.links {
            let kind = match builtin {
                BuiltinLinkKind::Activator => LinkKind {
                    peer: self.peer.clone().into(),
                    process_name: self.process_name.clone().into(),
                    pod_selector: self.pod_selector.clone().into(),
                    container: self.container.clone().into(),
                    shape: builtin.link_kind().shape,
                },
                BuiltinLinkKind::AutoscalerForwarder => builtin.link_kind().clone(),
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }
}

const WATCHED: &str = "What to watch";
const KUBERNETES: &str = "Kubernetes";
const EXPORTED: &str = "What to export";
const ITSELF: &str = "The agent itself";

/// Where Knative Serving installs its own pods.
const KNATIVE_SERVING: &str = "knative-serving";
const NO_STATE: &str = "needs --state-dir, where it is left how far what is pinned was told";
const NO_NODE: &str = "--kubernetes=on: needs this node's name, to watch only its pods; set \
     STATLINK_NODE_NAME from spec.nodeName, or --node-name";
