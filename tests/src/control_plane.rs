//! A real Kubernetes API server with etcd and without a node: its pods are only objects. A
//! [`Container`](crate::container) puts a process into a pod's control group.

use std::{net::Ipv4Addr, path::PathBuf};

use anyhow::Result;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    api_server::{ApiServer, Kubernetes, Pki},
    build,
    netns::Namespace,
    scratch,
};

/// The node's name, in the API.
pub const NODE: &str = "node-1";

/// A control plane in a network namespace, on its loopback.
#[derive(Debug)]
pub struct ControlPlane {
    api: ApiServer,
    pki: Pki,
    _directory: TempDir,
}

impl ControlPlane {
    /// Starts it in `at` and waits until it is ready.
    pub fn start(at: &Namespace) -> Result<Self> {
        let directory = scratch::directory("control-plane")?;
        let service = Ipv4Addr::new(10, 96, 0, 1);
        let pki = Pki::make(directory.path().join("pki"), Ipv4Addr::LOCALHOST, service)?;
        pki.write_kubeconfigs("https://127.0.0.1:6443")?;
        let kubernetes = Kubernetes {
            program: build::kubernetes()?,
            namespace: at.clone(),
            directory: directory.path().to_owned(),
            pki: pki.clone(),
        };
        let options = [
            "--bind-address=127.0.0.1",
            // Only pods use it, and none runs: an address that nobody has.
            "--advertise-address=192.0.2.1",
            // No controller creates the accounts that it would require.
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
        ];
        let mut api = ApiServer::start(&kubernetes, &options)?;
        api.wait_ready()?;
        Ok(Self {
            api,
            pki,
            _directory: directory,
        })
    }

    /// Starts the API server again, and waits until it is ready.
    pub fn start_api(&mut self) -> Result<()> {
        self.api.start_again()
    }

    /// Kills the API server, which ends all watches.
    pub fn stop_api(&mut self) -> Result<()> {
        self.api.stop()
    }

    /// Freezes the API server: no request is answered, and no watch ends.
    pub fn freeze_api(&self) -> Result<()> {
        self.api.freeze()
    }

    /// Lets the API server go on.
    pub fn thaw_api(&self) -> Result<()> {
        self.api.thaw()
    }

    /// The agent's kubeconfig: a user with the rights of its Role.
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.kubeconfig(AGENT)
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.api.kubectl(arguments)
    }

    /// Creates or updates an object.
    pub fn apply(&self, object: &Value) -> Result<()> {
        self.api.apply(&object.to_string(), &[]).map(drop)
    }

    /// A dry run of manifests, which refuses unknown fields; returns the API server's answer.
    pub fn try_apply(&self, manifests: &str) -> Result<String> {
        self.api
            .apply(manifests, &["--dry-run=server", "--validate=strict"])
    }

    /// Creates a namespace, and gives the agent its Role there.
    pub fn namespace(&self, name: &str) -> Result<()> {
        self.apply(
            &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }),
        )?;
        self.grant(name)
    }

    /// Creates the agent's Role and RoleBinding, as the chart does.
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

    /// Creates an activator's pod on this node; returns its uid.
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

    /// Sets the container ids in a pod's status, as the kubelet would.
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

    /// Creates the autoscaler's Service with this ClusterIP, and its EndpointSlice.
    pub fn autoscaler(&self, namespace: &str, cluster_ip: &str, endpoints: &[&str]) -> Result<()> {
        self.apply(&json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "autoscaler", "namespace": namespace },
            "spec": { "clusterIP": cluster_ip, "ports": [{ "name": "http", "port": 8080 }] },
        }))?;
        self.endpoints(namespace, endpoints)
    }

    /// Sets the addresses of the autoscaler's pods.
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
}

/// The name of its certificate, and of the user.
const AGENT: &str = "statlink";
