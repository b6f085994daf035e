//! The node's own programs, each with its configuration for a shared machine.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, mount};

use super::{image, remains};
use crate::{
    api_server::{self, ApiServer, Kubernetes, Pki, option},
    netns::{self, Namespace},
    process::Process,
};

/// The node: its network, its files, its certificates.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    pub(super) kubernetes: Kubernetes,
}

impl Node {
    /// The node's address.
    pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
    /// The API server's Service: the first address of the range of Services.
    pub(super) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
    /// CoreDNS's Service.
    pub(super) const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

    /// Makes its network, directory and certificates; nothing runs yet.
    pub(super) fn new(program: PathBuf) -> Result<Self> {
        let name = remains::own_name();
        let directory = remains::directory(&name);
        fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
        for group in remains::cgroups(&name) {
            fs::create_dir_all(&group).with_context(|| format!("create {}", group.display()))?;
        }
        mount_tracefs(&name)?;
        let namespace =
            Namespace::new(&format!("{}{}-cluster", netns::PREFIX, std::process::id()))?;
        // A bridge without ports: an address and a route are all that the node needs.
        namespace.ip(&format!(
            "link set lo up\n\
             link add node0 type bridge\n\
             addr add {}/24 dev node0\n\
             link set node0 up\n\
             route add default via 10.88.0.254 dev node0\n",
            Self::ADDRESS
        ))?;
        namespace.sysctl("net/ipv4/ip_forward", "1")?;
        let pki = Pki::make(directory.join("pki"), Self::ADDRESS, Self::API_SERVICE)?;
        pki.write_kubeconfigs(&format!("https://{}:6443", Self::ADDRESS))?;
        let kubernetes = Kubernetes {
            program,
            namespace,
            directory,
            pki,
        };
        Ok(Self { name, kubernetes })
    }

    /// The API server, with the options for a cluster with a node.
    pub(super) fn api_server(&self) -> Result<ApiServer> {
        let options = [
            &format!("--advertise-address={}", Self::ADDRESS),
            // Otherwise `kubectl logs` and `exec` would look up the node's name by DNS.
            "--kubelet-preferred-address-types=InternalIP",
        ];
        ApiServer::start(&self.kubernetes, &options)
    }

    pub(super) fn controller_manager(&self) -> Result<Process> {
        let mut command = self.kubernetes.part("kube-controller-manager");
        command
            .arg(option(
                "--kubeconfig",
                &self.kubernetes.pki.kubeconfig("controller-manager"),
            ))
            .arg(option(
                "--service-account-private-key-file",
                &self.kubernetes.pki.key("service-accounts"),
            ))
            .arg(option(
                "--root-ca-file",
                &self.kubernetes.pki.certificate("ca"),
            ))
            .arg(option(
                "--cert-dir",
                &self.kubernetes.directory.join("controllers"),
            ))
            .args([
                "--use-service-account-credentials=true",
                "--leader-elect=false",
            ]);
        Process::spawn("kube-controller-manager", command)
    }

    pub(super) fn scheduler(&self) -> Result<Process> {
        let mut command = self.kubernetes.part("kube-scheduler");
        command
            .arg(option(
                "--kubeconfig",
                &self.kubernetes.pki.kubeconfig("scheduler"),
            ))
            .arg(option(
                "--cert-dir",
                &self.kubernetes.directory.join("scheduler"),
            ))
            .arg("--leader-elect=false");
        Process::spawn("kube-scheduler", command)
    }

    pub(super) fn containerd(&self) -> Result<Process> {
        let directory = self.kubernetes.directory.display();
        let sandbox = image::reference("pause");
        let text = format!(
            r#"version = 2
root = "{directory}/containerd/root"
state = "{directory}/containerd/state"
[grpc]
address = "{directory}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{directory}/cni"
"#
        );
        let config = self.write("containerd.toml", &text)?;
        fs::create_dir(self.kubernetes.directory.join("cni")).context("create CNI's directory")?;
        // The node routes every packet between pods. On a bridge, packets would bypass its translation
        // of Services' addresses.
        let network = serde_json::json!({
            "cniVersion": "0.4.0",
            "name": self.name,
            "plugins": [{
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "subnet": PODS,
                    "routes": [{ "dst": "0.0.0.0/0" }],
                    "dataDir": self.kubernetes.directory.join("cni/addresses"),
                },
            }],
        });
        self.write("cni/10-pods.conflist", &network.to_string())?;

        let mut command = self.kubernetes.namespace.command("containerd");
        command.arg("--config").arg(config);
        let mut process = Process::spawn("containerd", command)?;
        process.wait_for("readiness", Duration::from_secs(30), |line| {
            line.text.contains("containerd successfully booted")
        })?;
        Ok(process)
    }

    /// Imports an image's archive.
    pub(super) fn import(&self, archive: &Path) -> Result<()> {
        netns::run(
            Command::new("ctr")
                .arg("--address")
                .arg(self.kubernetes.directory.join("containerd.sock"))
                .args(["--namespace=k8s.io", "images", "import"])
                .arg(archive),
        )
        .map(drop)
    }

    /// Imports an image of a program; returns its reference.
    pub(super) fn import_program(&self, name: &str, program: &Path) -> Result<String> {
        let archive = image::archive(&self.kubernetes.directory, name, program)?;
        self.import(&archive)?;
        fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
        Ok(image::reference(name))
    }

    /// The process of this name in the control group of the pod with this uid.
    pub(super) fn process(&self, pod_uid: &str, name: &str) -> Option<u32> {
        let mut pids = remains::processes(&self.name, &self.kubernetes.directory).into_iter();
        let found = pids.find(|pid| {
            let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("comm").trim() == name && read("cgroup").contains(pod_uid)
        })?;
        u32::try_from(found.as_raw_nonzero().get()).ok()
    }

    pub(super) fn kubelet(&self) -> Result<Process> {
        let directory = self.kubernetes.directory.display();
        let resolver = self.write("resolv.conf", "")?;
        let text = format!(
            r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  x509: {{clientCAFile: {ca}}}
containerRuntimeEndpoint: unix://{directory}/containerd.sock
podLogsDir: {directory}/logs
volumePluginDir: {directory}/volume-plugins
cgroupRoot: /{name}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
clusterDomain: cluster.local
clusterDNS: [{dns}]
resolvConf: {resolver}
# A full disk of the machine must not evict pods.
evictionHard: {{memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%"}}
imageGCHighThresholdPercent: 100
"#,
            ca = self.kubernetes.pki.certificate("ca").display(),
            name = self.name,
            dns = Self::DNS_SERVICE,
            resolver = resolver.display(),
        );
        let config = self.write("kubelet.yaml", &text)?;
        let mut command = self.kubernetes.part("kubelet");
        command
            .arg(option("--config", &config))
            .arg(option(
                "--kubeconfig",
                &self.kubernetes.pki.kubeconfig("kubelet"),
            ))
            .arg(option(
                "--root-dir",
                &self.kubernetes.directory.join("kubelet"),
            ))
            .arg(option(
                "--cert-dir",
                &self.kubernetes.directory.join("kubelet-pki"),
            ))
            .arg(format!("--node-ip={}", Self::ADDRESS))
            .arg("--hostname-override=node");
        Process::spawn("kubelet", command)
    }

    pub(super) fn proxy(&self) -> Result<Process> {
        let text = format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: {PODS}
hostnameOverride: node
clientConnection: {{kubeconfig: {}}}
# Limits of conntrack are the machine's, and cannot be set in the node's network.
conntrack: {{maxPerCore: 0}}
",
            self.kubernetes.pki.kubeconfig("proxy").display()
        );
        let config = self.write("proxy.yaml", &text)?;
        let mut command = self.kubernetes.part("kube-proxy");
        command.arg(option("--config", &config));
        Process::spawn("kube-proxy", command)
    }

    fn write(&self, file: &str, text: &str) -> Result<PathBuf> {
        api_server::write(self.kubernetes.directory.join(file), text)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        remains::remove(&self.name);
    }
}

/// Like systemd on a real node. Its source is the node's name, so that it is removed with the node.
fn mount_tracefs(name: &str) -> Result<()> {
    const TRACEFS: &str = "/sys/kernel/tracing";
    if Path::new(TRACEFS).join("events").exists() {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(name, TRACEFS, "tracefs", flags, None).context("mount tracefs")
}

/// The pods' addresses.
const PODS: &str = "10.244.0.0/24";
