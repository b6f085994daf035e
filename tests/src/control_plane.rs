//! A real Kubernetes API server, with etcd behind it and no node: pods are objects that nobody
//! runs. What runs is put into a pod's control group by [`Container`].

use std::{
    fs::{self, File},
    io::Write as _,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    build, netns,
    netns::Namespace,
    process::{Process, Signal},
    scratch,
};

/// The node's name, in the API.
pub const NODE: &str = "node-1";

/// A control plane in a network namespace, on its loopback.
#[derive(Debug)]
pub struct ControlPlane {
    api: Option<Process>,
    _etcd: Process,
    binary: PathBuf,
    directory: TempDir,
    at: Namespace,
}

/// A container's control group, removed on drop.
#[derive(Debug)]
pub struct Container {
    group: PathBuf,
    /// Its id, as the runtime would report it.
    pub id: String,
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts it in `at` and waits until it is ready.
    pub fn start(at: &Namespace) -> Result<Self> {
        let binary = build::kubernetes()?;
        let directory = scratch::directory("control-plane")?;
        let place = directory.path();
        netns::run(
            Command::new("openssl")
                .args(["genrsa", "-out"])
                .arg(place.join("sa.key"))
                .arg("2048"),
        )?;
        fs::write(place.join("tokens.csv"), TOKENS)?;
        for user in [ADMIN, AGENT] {
            fs::write(place.join(user), kubeconfig(user).to_string())?;
        }
        let mut etcd = at.command(&binary);
        etcd.args([
            "etcd",
            "--unsafe-no-fsync",
            "--log-level=error",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=default=http://127.0.0.1:2380",
            "--data-dir",
        ])
        .arg(place.join("etcd"));
        let mut plane = Self {
            api: None,
            _etcd: Process::spawn("etcd", etcd)?,
            binary,
            directory,
            at: at.clone(),
        };
        plane.start_api()?;
        Ok(plane)
    }

    /// Starts the API server, unless it runs, and waits until it is ready.
    pub fn start_api(&mut self) -> Result<()> {
        if self.api.is_some() {
            return Ok(());
        }
        let place = self.directory.path();
        let path = |name: &str| place.join(name).display().to_string();
        let mut command = self.at.command(&self.binary);
        command.args([
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=127.0.0.1",
            // Told to pods, and there are none: an address that is nobody's.
            "--advertise-address=192.0.2.1",
            "--secure-port=6443",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            // There is no controller that would make the accounts it asks for.
            "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--endpoint-reconciler-type=none",
            "-v=0",
        ]);
        command.args([
            format!("--service-account-key-file={}", path("sa.key")),
            format!("--service-account-signing-key-file={}", path("sa.key")),
            format!("--token-auth-file={}", path("tokens.csv")),
            format!("--cert-dir={}", path("certificates")),
        ]);
        let api = self.api.insert(Process::spawn("kube-apiserver", command)?);
        let start = Instant::now();
        loop {
            ensure!(api.is_running(), "it ended: {}", api.describe());
            let mut ready = Self::kubectl_in(&self.at, &self.binary, &self.directory);
            ready.args(["get", "--raw", "/readyz"]);
            if ready.output().is_ok_and(|output| output.status.success()) {
                return Ok(());
            }
            ensure!(
                start.elapsed() < START,
                "not ready within {START:?}: {}",
                api.describe()
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Kills the API server: who watches is cut off.
    pub fn stop_api(&mut self) -> Result<()> {
        if let Some(mut api) = self.api.take() {
            api.signal(Signal::KILL)?;
            api.wait(Duration::from_secs(5))?;
        }
        Ok(())
    }

    /// The agent's kubeconfig: a user that may do what a Role gives it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join(AGENT)
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Self::kubectl_in(&self.at, &self.binary, &self.directory);
        command.args(arguments);
        netns::run(&mut command)
    }

    /// Creates or updates an object.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let mut command = Self::kubectl_in(&self.at, &self.binary, &self.directory);
        let mut child = command
            .args(["apply", "--filename=-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("run kubectl")?;
        let mut input = child.stdin.take().context("kubectl has no input")?;
        input.write_all(object.to_string().as_bytes())?;
        drop(input);
        ensure!(child.wait()?.success(), "kubectl apply refused {object}");
        Ok(())
    }

    /// Makes a namespace, and gives the agent what its Role in a cluster gives it there.
    pub fn namespace(&self, name: &str) -> Result<()> {
        self.apply(
            &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }),
        )?;
        self.grant(name)
    }

    /// The Role that the chart makes.
    pub fn grant(&self, namespace: &str) -> Result<()> {
        let metadata = json!({ "name": "statlink", "namespace": namespace });
        let verbs = ["get", "list", "watch"];
        self.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": [
                { "apiGroups": [""], "resources": ["pods", "services"], "verbs": verbs },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": verbs,
                },
            ],
        }))?;
        self.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "statlink",
            },
            "subjects": [{ "kind": "User", "name": AGENT }],
        }))
    }

    /// An activator pod on this node, and its uid.
    pub fn pod(&self, namespace: &str, name: &str) -> Result<String> {
        let container = |name: &str| json!({ "name": name, "image": name });
        self.apply(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": { "app": "activator" },
            },
            "spec": {
                "nodeName": NODE,
                "containers": [container("activator"), container("proxy")],
            },
        }))?;
        let jsonpath = "--output=jsonpath={.metadata.uid}";
        let uid = self.kubectl(&["get", "pod", name, "--namespace", namespace, jsonpath])?;
        Ok(uid.trim().to_owned())
    }

    /// What the kubelet would report: which container has which id.
    pub fn report(&self, namespace: &str, pod: &str, containers: &[(&str, &str)]) -> Result<()> {
        let statuses: Vec<Value> = containers
            .iter()
            .map(|(name, id)| {
                json!({
                    "name": name,
                    "containerID": format!("containerd://{id}"),
                    "image": name,
                    "imageID": name,
                    "ready": true,
                    "restartCount": 0,
                })
            })
            .collect();
        let patch = json!({ "status": { "containerStatuses": statuses } }).to_string();
        let patch = format!("--patch={patch}");
        let patched = ["patch", "pod", pod, "--subresource=status", "--namespace"];
        self.kubectl(&[&patched[..], &[namespace, "--type=merge", &patch]].concat())?;
        Ok(())
    }

    /// The autoscaler's Service with this ClusterIP, and an EndpointSlice with these addresses.
    pub fn autoscaler(&self, namespace: &str, cluster_ip: &str, endpoints: &[&str]) -> Result<()> {
        self.apply(&json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "autoscaler", "namespace": namespace },
            "spec": { "clusterIP": cluster_ip, "ports": [{ "name": "http", "port": 8080 }] },
        }))?;
        self.endpoints(namespace, endpoints)
    }

    /// The addresses of the autoscaler's pods.
    pub fn endpoints(&self, namespace: &str, addresses: &[&str]) -> Result<()> {
        let endpoints: Vec<Value> = addresses
            .iter()
            .map(|address| json!({ "addresses": [address] }))
            .collect();
        self.apply(&json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "autoscaler-1",
                "namespace": namespace,
                "labels": { "kubernetes.io/service-name": "autoscaler" },
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{ "name": "http", "port": 8080 }],
        }))
    }

    fn kubectl_in(at: &Namespace, binary: &Path, directory: &TempDir) -> Command {
        let mut command = at.command(binary);
        command
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(directory.path().join(ADMIN));
        command
    }
}

// === impl Container ===

impl Container {
    /// A container of the pod with this uid, named as the kubelet's cgroupfs driver does.
    pub fn new(pod_uid: &str) -> Result<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:032x}{serial:032x}", std::process::id());
        let group = unified()?.join(format!("kubepods/pod{pod_uid}/{id}"));
        fs::create_dir_all(&group).with_context(|| format!("create {}", group.display()))?;
        Ok(Self { group, id })
    }

    /// Its cgroup.
    pub fn group(&self) -> &Path {
        &self.group
    }

    /// What `command` starts will be in it from its first instruction on, as under a runtime.
    pub fn hold(&self, command: &mut Command) -> Result<()> {
        let path = self.group.join("cgroup.procs");
        let members = File::options().write(true).open(&path);
        let members = members.with_context(|| format!("open {}", path.display()))?;
        let enter = move || {
            // 0 is whoever writes.
            rustix::io::write(members.as_fd(), b"0")?;
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes one system call on a descriptor that it
        // keeps open; it neither allocates nor locks.
        unsafe { command.pre_exec(enter) };
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A group with a process that is just ending is busy for a moment.
        let start = Instant::now();
        while let Err(error) = fs::remove_dir(&self.group) {
            if start.elapsed() > Duration::from_secs(2) {
                eprintln!("testbed: {} stays: {error}", self.group.display());
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // The pod's, once its last container's is gone, and then the node's.
        for group in self.group.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(group);
        }
    }
}

/// Where the unified hierarchy is mounted.
fn unified() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    for mount in mounts.lines() {
        let mut fields = mount.split(' ');
        if let (Some(_), Some(place), Some("cgroup2")) =
            (fields.next(), fields.next(), fields.next())
        {
            return Ok(PathBuf::from(place));
        }
    }
    bail!("no cgroup2 is mounted")
}

fn kubeconfig(user: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{ "name": "here", "context": { "cluster": "here", "user": user } }],
        "clusters": [{
            "name": "here",
            "cluster": { "server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": true },
        }],
        "users": [{ "name": user, "user": { "token": user } }],
    })
}

/// User names, and the tokens that prove them here.
const ADMIN: &str = "admin";
const AGENT: &str = "statlink";
const TOKENS: &str = "admin,admin,1,system:masters\nstatlink,statlink,2\n";
const START: Duration = Duration::from_secs(60);
