//! A Kubernetes of one node, with Knative's activator and autoscaler as they are deployed, and a
//! Collector that takes what they and the agent export.
//!
//! All parts are the real ones: etcd, the control plane, kubelet, kube-proxy with nftables,
//! containerd with runc and CNI, CoreDNS. The node has a network namespace, a directory and a
//! cgroup of its own; a machine has one such node at a time.

mod image;
mod node;
mod pki;
mod remains;

use std::{
    fs::{self, File},
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use self::node::Node;
use crate::{
    build,
    collector::{self, Exports},
    netns::{self, Namespace},
    process::Process,
};

/// The cluster.
///
/// Fields are dropped in this order: first who would start again what ends, the node last.
#[derive(Debug)]
pub struct Cluster {
    kubelet: Process,
    _others: Vec<Process>,
    _containerd: Process,
    api_server: Option<Process>,
    _etcd: Process,
    /// What its Collector was sent.
    pub exports: Exports,
    node: Node,
    _lock: File,
}

/// Where Knative lives.
pub const KNATIVE: &str = "knative-serving";

/// Where the Collector takes OTLP over gRPC, from pods.
pub const OTLP: &str = "http://collector.observability.svc.cluster.local:4317";

/// Removes this process's cluster, when it ends by a signal.
pub(crate) fn remove_own() {
    let name = remains::own_name();
    if remains::directory(&name).exists() {
        remains::remove(&name);
    }
}

impl Cluster {
    /// Starts all of it, and waits until the activator and the autoscaler are ready. Waits for
    /// the cluster of another process to go; sweeps what dead runs left.
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
        let etcd = node.etcd()?;
        let mut api_server = node.api_server()?;
        progress.say("images");
        let containerd = node.containerd()?;
        for (name, program) in images {
            node.import_program(name, &program)?;
        }
        wait_ready(&node, &mut api_server)?;
        progress.say("kubelet, controllers, scheduler and kube-proxy");
        let others = vec![node.controller_manager()?, node.scheduler()?, node.proxy()?];
        let kubelet = node.kubelet()?;

        let directory = node.directory.join("exports");
        fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
        let mut cluster = Self {
            kubelet,
            _others: others,
            _containerd: containerd,
            api_server: Some(api_server),
            _etcd: etcd,
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

    /// Runs kubectl as the administrator; gives what it printed.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        netns::run(self.node.kubectl().args(args))
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let mut child = self
            .node
            .kubectl()
            // An annotation could not hold a large definition.
            .args(["apply", "--server-side", "--force-conflicts", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("run kubectl apply")?;
        // Dropped at the end of the statement, which is the end of its input.
        let written = child
            .stdin
            .take()
            .context("no input")?
            .write_all(manifests.as_bytes());
        let output = child.wait_with_output().context("wait for kubectl apply")?;
        if !output.status.success() || written.is_err() {
            bail!(
                "kubectl apply refused: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// Waits until `resource` (`deployment/activator`) has been rolled out; an error says what
    /// its namespace looks like.
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

    /// Sets the number of a resource's replicas.
    pub fn scale(&self, namespace: &str, resource: &str, replicas: u32) -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        self.kubectl(&["scale", "-n", namespace, resource, &replicas])
            .map(drop)
    }

    /// Makes an image known to the node: an archive in Docker's or the OCI's format.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        self.node.import(archive)
    }

    /// Makes an image of a static program; gives what pods name it by.
    pub fn import_program(&self, name: &str, program: &Path) -> Result<String> {
        self.node.import_program(name, program)
    }

    /// The process of this name in a pod, as the node numbers it.
    pub fn process(&self, namespace: &str, pod: &str, name: &str) -> Result<u32> {
        let uid = "--output=jsonpath={.metadata.uid}";
        let uid = self.kubectl(&["get", "pod", pod, "--namespace", namespace, uid])?;
        self.node
            .process(uid.trim(), name)
            .with_context(|| format!("no process {name} in {pod}"))
    }

    /// Runs Helm as the administrator; gives what it printed.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        let helm = build::tools()?.helm;
        netns::run(
            self.node
                .namespace
                .command(helm)
                .args(args)
                .env("KUBECONFIG", self.node.pki.kubeconfig("admin"))
                .env("HOME", &self.node.directory),
        )
    }

    /// Ends the API server, as an outage of it would.
    pub fn stop_api_server(&mut self) -> Result<()> {
        let mut process = self
            .api_server
            .take()
            .context("the API server is not running")?;
        process.kill().map(drop)
    }

    /// Starts it again, and waits until it answers.
    pub fn start_api_server(&mut self) -> Result<()> {
        let process = self.api_server.insert(self.node.api_server()?);
        wait_ready(&self.node, process)
    }

    /// The node's network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.node.namespace
    }

    /// Where its administrator's kubeconfig is; it holds in [`Cluster::namespace`].
    pub fn kubeconfig(&self) -> std::path::PathBuf {
        self.node.pki.kubeconfig("admin")
    }

    fn deploy_base(&mut self, exports: &Path) -> Result<()> {
        self.apply(include_str!("manifests/coredns.yaml"))?;
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let file = Path::new("/exports/exports.jsonl");
        let config = collector::config_text(any(4317), any(4318), file, None);
        let config = serde_json::Value::from(config).to_string(); // JSON's strings are YAML's, too
        let manifest = include_str!("manifests/collector.yaml")
            .replace(
                "{config.yaml: CONFIG}",
                &format!("{{config.yaml: {config}}}"),
            )
            .replace("path: EXPORTS", &format!("path: {}", exports.display()));
        self.apply(&manifest)
    }

    fn deploy_knative(&mut self, manifests: &Path) -> Result<()> {
        let read = |name: &str| {
            let path = manifests.join(name);
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        self.apply(&read("definitions.yaml")?)?;
        self.apply(&read("configuration.yaml")?)?;
        // Knative's own metric, to the same Collector.
        let patch = serde_json::json!({ "data": {
            "metrics-protocol": "http/protobuf",
            "metrics-endpoint":
                "http://collector.observability.svc.cluster.local:4318/v1/metrics",
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
        ])?;
        // The activator finds them before it looks for the autoscaler.
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
        // What ends from here on is not to be started again.
        let _ = self.kubelet.kill(); // it may have ended
    }
}

/// Waits until the API server answers, service accounts' roles included.
fn wait_ready(node: &Node, api_server: &mut Process) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = netns::run(node.kubectl().args(["get", "--raw", "/readyz"]));
        match answer {
            Ok(_) => return Ok(()),
            Err(_) if api_server.is_running() && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(100));
            }
            Err(error) => return Err(error.context(api_server.describe())),
        }
    }
}

/// One node at a time: kubelets would take each other's ports and the machine's time.
fn lock() -> Result<File> {
    let path = std::env::temp_dir().join("statlink-cluster.lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// Says what is being waited for, and since when.
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

/// For anything that is ready in seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);
