//! A node with an agent and a Kubernetes API that knows the pods.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use statlink_tests::{
    container::Container,
    mock_api::{MockApi, Objects},
    netns::{Network, Pod},
    peer::PORT,
    process::Process,
    scenario::Bed,
};

use crate::schedule::End;

/// Fields are dropped in this order: the network last.
pub(crate) struct Site {
    pub(crate) api: MockApi,
    /// The addresses of every autoscaler: each lane has its own, and the agent does not know lanes.
    endpoints: Vec<IpAddr>,
    /// One of these addresses where nobody listens.
    pub(crate) nobody: Pod,
    pub(crate) bed: Bed,
}

/// What the API knows of an activator's pod.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pod: Pod,
    pub(crate) uid: String,
    container: String,
}

impl Site {
    pub(crate) fn new() -> Result<Self> {
        let bed = Bed::without_autoscaler()?;
        let api = MockApi::start(Objects::default(), Some(bed.network.node()))?;
        let namespace = bed.network.system_namespace();
        let address = bed.service()?.address.to_string();
        api.put(
            "services",
            json!({
                "metadata": { "name": SERVICE, "namespace": namespace, "uid": "service" },
                "spec": {
                    "type": "ClusterIP",
                    "clusterIP": address,
                    "clusterIPs": [address],
                    "ports": [{ "name": "http", "port": PORT }],
                },
            }),
        );
        let nobody = bed.network.pod("nobody")?;
        let mut site = Self {
            api,
            endpoints: Vec::new(),
            nobody: nobody.clone(),
            bed,
        };
        site.add_endpoint(&nobody);
        Ok(site)
    }

    /// Starts the agent; returns its stream of events.
    pub(crate) fn start_agent(&mut self) -> Result<Process> {
        // Watches of a former agent would count as its watches.
        self.api.leave();
        self.api.come_back();
        let options = self
            .bed
            .agent_options()
            .arg("--export-interval")
            .arg("2s")
            .arg("--health-address")
            .arg(health_address().to_string())
            .env("STATLINK_KUBERNETES", "on")
            .env("STATLINK_NODE_NAME", "node-1")
            .env("KUBECONFIG", self.api.kubeconfig());
        self.bed.start_agent_with(&options)?;
        self.bed.agent.as_ref().context("no agent")?.events()
    }

    /// Whether the agent has received every pod, and will receive the next.
    pub(crate) fn is_followed(&self) -> bool {
        self.api.is_followed_by(POD_WATCHES)
    }

    /// Adds an autoscaler to the Service's endpoints.
    pub(crate) fn add_endpoint(&mut self, pod: &Pod) {
        self.endpoints.extend([IpAddr::from(pod.v4), pod.v6.into()]);
        for family in ["IPv4", "IPv6"] {
            let of_family = |address: &&IpAddr| address.is_ipv4() == (family == "IPv4");
            let addresses = self.endpoints.iter().filter(of_family);
            let endpoints: Vec<Value> = addresses
                .map(|address| json!({ "addresses": [address] }))
                .collect();
            self.api.put(
                "endpointslices",
                json!({
                    "metadata": {
                        "name": format!("{SERVICE}-{family}"),
                        "namespace": pod.system_namespace,
                        "uid": family,
                        "labels": { "kubernetes.io/service-name": SERVICE },
                    },
                    "addressType": family,
                    "endpoints": endpoints,
                    "ports": [{ "name": "http", "port": PORT }],
                }),
            );
        }
    }

    /// The pod runs on this node, with this container.
    pub(crate) fn runs(&self, registered: &Registered) {
        self.api.put("pods", registered.object(None, &json!([])));
    }

    /// The pod will be ended.
    pub(crate) fn announce(&self, registered: &Registered, end: End) {
        let (deleted, conditions) = match end {
            End::Killed => return,
            End::Deleted => (Some("2026-01-01T00:00:00Z"), json!([])),
            End::ByKubelet => (
                None,
                json!([{
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "TerminationByKubelet",
                }]),
            ),
        };
        let object = registered.object(deleted, &conditions);
        self.api.put("pods", object);
    }

    /// The pod is gone.
    pub(crate) fn gone(&self, registered: &Registered) {
        self.api.remove("pods", &registered.pod.name);
    }
}

impl Registered {
    pub(crate) fn new(pod: &Pod, uid: String, container: &Container) -> Self {
        Self {
            pod: pod.clone(),
            uid,
            container: container.id.clone(),
        }
    }

    fn object(&self, deleted: Option<&str>, conditions: &Value) -> Value {
        let Self {
            pod,
            uid,
            container,
        } = self;
        json!({
            "metadata": {
                "name": pod.name,
                "namespace": pod.system_namespace,
                "uid": uid,
                "labels": { "app": "activator" },
                "deletionTimestamp": deleted,
            },
            "status": {
                "phase": "Running",
                "conditions": conditions,
                "containerStatuses": [{
                    "name": "activator",
                    "containerID": format!("containerd://{container}"),
                    "state": { "running": {} },
                }],
            },
        })
    }
}

/// The address at which the agent answers the kubelet's probes.
pub(crate) fn health_address() -> SocketAddr {
    (Network::NODE, 8082).into()
}

/// A pod's uid that no other pod of this machine has.
pub(crate) fn new_uid() -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    format!("{:08x}-0000-4000-8000-{serial:012x}", std::process::id())
}

/// The name that the agent looks for by default.
const SERVICE: &str = "autoscaler";
/// The agent watches the pods of activators and of autoscalers.
const POD_WATCHES: u32 = 2;
