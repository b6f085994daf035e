//! A Kubernetes of one node, with the real Knative activator and autoscaler, and a Collector that
//! receives what they and the agent export.
//!
//! All parts are real: etcd, the control plane, kubelet, kube-proxy with nftables, containerd with
//! runc and CNI, CoreDNS. The node has its own network namespace, directory and cgroup; a machine
//! has one such node at a time.

mod faults;
mod image;
mod node;
mod remains;

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

pub use self::faults::Filter;
use self::node::Node;
use crate::{
    api_server::ApiServer,
    build,
    collector::{self, Exports},
    deploy,
    netns::{self, Namespace},
    process::Process,
};

/// The cluster.
///
/// Fields are dropped in this order: first the kubelet, which would restart what ends; the node
/// last.
#[derive(Debug)]
pub struct Cluster {
    kubelet: Process,
    _others: Vec<Process>,
    _containerd: Process,
    api: ApiServer,
    /// The exports that its Collector received.
    pub exports: Exports,
    node: Node,
    _lock: File,
}

/// Knative's namespace.
pub const KNATIVE: &str = "knative-serving";

/// The Collector's endpoint for OTLP over gRPC, from pods.
pub const OTLP: &str = "http://collector.observability.svc.cluster.local:4317";

/// The node's address, from pods.
pub const NODE: Ipv4Addr = Node::ADDRESS;

/// The gateway of [`Cluster::deploy_gateway`]: OTLP over gRPC, from pods.
pub const GATEWAY: &str = "http://statlink-gateway.observability:4317";

/// Removes this process's cluster when a signal ends the process.
pub(crate) fn remove_own() {
    let name = remains::own_name();
    if remains::directory(&name).exists() {
        remains::remove(&name);
    }
}

impl Cluster {
    /// Starts everything, and waits until the activator and the autoscaler are ready. Waits for the
    /// end of another process's cluster; removes what killed runs left.
    ///
    /// The calling thread must outlive it: its programs end with that thread.
    pub fn start() -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "a node needs root; run the tests as root"
        );
        let kubernetes = build::kubernetes()?;
        let serving = build::serving()?;
        let images = [
            ("pause", build::pause()?),
            ("coredns", build::coredns()?),
            ("otelcol", build::parts()?.collector),
            ("activator", serving.activator),
            ("autoscaler", serving.autoscaler),
        ];
        let lock = lock()?;
        netns::guard();
        netns::sweep();
        remains::sweep();

        let progress = Progress::start();
        let node = Node::new(kubernetes)?;
        progress.say("etcd and the API server");
        let mut api = node.api_server()?;
        progress.say("images");
        let containerd = node.containerd()?;
        for (name, program) in images {
            node.import_program(name, &program)?;
        }
        api.wait_ready()?;
        progress.say("kubelet, controllers, scheduler and kube-proxy");
        let others = vec![node.controller_manager()?, node.scheduler()?, node.proxy()?];
        let kubelet = node.kubelet()?;

        let directory = node.kubernetes.directory.join("exports");
        fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
        let mut cluster = Self {
            kubelet,
            _others: others,
            _containerd: containerd,
            api,
            exports: Exports::follow(directory.join("exports.jsonl")),
            node,
            _lock: lock,
        };
        progress.say("CoreDNS and the Collector");
        cluster.deploy_base(&directory)?;
        progress.say("Knative");
        cluster.deploy_knative(&serving.manifests)?;
        progress.say("up");
        Ok(cluster)
    }

    /// Runs kubectl as the administrator; returns its output.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.api.kubectl(args)
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        self.api.apply(manifests, &[]).map(drop)
    }

    /// Waits until `resource` (`deployment/activator`) has been rolled out; an error describes its
    /// namespace.
    pub fn rollout_status(
        &mut self,
        namespace: &str,
        resource: &str,
        timeout: Duration,
    ) -> Result<()> {
        let timeout = format!("--timeout={}s", timeout.as_secs());
        let result = self.kubectl(&["rollout", "status", "-n", namespace, resource, &timeout]);
        result.map(drop).map_err(|error| {
            let look = |args: &[&str]| {
                self.kubectl(args)
                    .unwrap_or_else(|error| format!("{error:#}"))
            };
            let pods = look(&["get", "pods", "-A", "-o", "wide"]);
            let events = look(&["get", "events", "-n", namespace]);
            let kubelet = self.kubelet.describe();
            error.context(format!("{pods}\n{events}\n{kubelet}"))
        })
    }

    /// Sets a resource's number of replicas.
    pub fn scale(&self, namespace: &str, resource: &str, replicas: u32) -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        self.kubectl(&["scale", "-n", namespace, resource, &replicas])
            .map(drop)
    }

    /// Imports an image into the node: an archive in Docker's or the OCI's format.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        self.node.import(archive)
    }

    /// Imports an image of a static program; returns its reference.
    pub fn import_program(&self, name: &str, program: &Path) -> Result<String> {
        self.node.import_program(name, program)
    }

    /// The process id, on the node, of the process with this name in a pod.
    pub fn process(&self, namespace: &str, pod: &str, name: &str) -> Result<u32> {
        let uid = "--output=jsonpath={.metadata.uid}";
        let uid = self.kubectl(&["get", "pod", pod, "--namespace", namespace, uid])?;
        self.node
            .process(uid.trim(), name)
            .with_context(|| format!("no process {name} in {pod}"))
    }

    /// Runs Helm as the administrator; returns its output.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        let helm = build::tools()?.helm;
        netns::run(
            self.node
                .kubernetes
                .namespace
                .command(helm)
                .args(args)
                .env("KUBECONFIG", self.node.kubernetes.pki.kubeconfig("admin"))
                .env("HOME", &self.node.kubernetes.directory),
        )
    }

    /// Kills the API server.
    pub fn stop_api_server(&mut self) -> Result<()> {
        self.api.stop()
    }

    /// Starts it again, and waits until it answers.
    pub fn start_api_server(&mut self) -> Result<()> {
        self.api.start_again()
    }

    /// Adds the recommended Collector in the recommended way (`kubectl apply -k deploy/collector`),
    /// in front of a Prometheus. Knative's own metric goes there, too; its activators must be
    /// restarted to send it.
    pub fn deploy_gateway(&mut self, prometheus: SocketAddr) -> Result<()> {
        let program = build::operators_collector()?;
        let image = self.import_program("gateway", &program)?;
        let manifests = deploy::kustomize("../collector")?;
        let published = manifests
            .lines()
            .find_map(|line| line.trim().strip_prefix("image: "))
            .context("the gateway has no image")?;
        self.apply(&manifests.replace(published, &image))?;
        let prometheus = format!("PROMETHEUS_OTLP_ENDPOINT=http://{prometheus}/api/v1/otlp");
        let gateway = "deployment/statlink-gateway";
        let set = [
            "set",
            "env",
            "--namespace=observability",
            gateway,
            &prometheus,
        ];
        self.kubectl(&set)?;
        self.export_from_knative("http://statlink-gateway.observability:4318/v1/metrics")?;
        self.rollout_status("observability", gateway, PATIENCE)
    }

    /// The node's network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.node.kubernetes.namespace
    }

    /// The administrator's kubeconfig, for use in [`Cluster::namespace`].
    pub fn kubeconfig(&self) -> std::path::PathBuf {
        self.node.kubernetes.pki.kubeconfig("admin")
    }

    fn deploy_base(&mut self, exports: &Path) -> Result<()> {
        self.apply(include_str!("manifests/coredns.yaml"))?;
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let file = Path::new("/exports/exports.jsonl");
        let config = collector::config_text(any(4317), any(4318), file, None, None);
        let config = serde_json::Value::from(config).to_string(); // JSON's strings are YAML's, too
        let manifest = include_str!("manifests/collector.yaml")
            .replace(
                "{config.yaml: CONFIG}",
                &format!("{{config.yaml: {config}}}"),
            )
            .replace("path: EXPORTS", &format!("path: {}", exports.display()));
        self.apply(&manifest)
    }

    /// Makes activators and autoscalers that start from now on export their own metrics, once a
    /// second.
    fn export_from_knative(&self, endpoint: &str) -> Result<()> {
        let patch = serde_json::json!({ "data": {
            "metrics-protocol": "http/protobuf",
            "metrics-endpoint": endpoint,
            "metrics-export-interval": "1s",
        }});
        self.kubectl(&[
            "patch",
            "configmap",
            "config-observability",
            "--namespace",
            KNATIVE,
            "--type=merge",
            "--patch",
            &patch.to_string(),
        ])
        .map(drop)
    }

    fn deploy_knative(&mut self, manifests: &Path) -> Result<()> {
        let read = |name: &str| {
            let path = manifests.join(name);
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        self.apply(&read("definitions.yaml")?)?;
        self.apply(&read("configuration.yaml")?)?;
        // To the same Collector.
        self.export_from_knative(
            "http://collector.observability.svc.cluster.local:4318/v1/metrics",
        )?;
        // The activator must find these when it starts.
        self.rollout_status("kube-system", "deployment/coredns", PATIENCE)?;
        self.rollout_status("observability", "deployment/collector", PATIENCE)?;

        let mut deployments = read("deployments.yaml")?;
        for name in ["activator", "autoscaler"] {
            let path = format!("ko://knative.dev/serving/cmd/{name}");
            deployments = deployments.replace(&path, &image::reference(name));
        }
        self.apply(&deployments)?;
        self.rollout_status(KNATIVE, "deployment/autoscaler", PATIENCE)?;
        self.rollout_status(KNATIVE, "deployment/activator", PATIENCE)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Otherwise it would restart what ends from here on.
        let _ = self.kubelet.kill(); // it may have ended
    }
}

/// One node at a time: kubelets would compete for ports and for the machine's time.
fn lock() -> Result<File> {
    let path = std::env::temp_dir().join("statlink-cluster.lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// Reports what is awaited, and since when.
struct Progress(Instant);

impl Progress {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn say(&self, what: &str) {
        eprintln!(
            "testbed: cluster, {:.1} s: {what}",
            self.0.elapsed().as_secs_f64()
        );
    }
}

/// Long enough on a busy machine for things that take seconds on an idle one.
const PATIENCE: Duration = Duration::from_secs(120);
