//! The node's own programs: each with the configuration that it needs on a shared machine.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{image, pki::Pki, remains};
use crate::{
    netns::{self, Namespace},
    process::Process,
};

/// Where the node is: its network, its files, who is who.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    /// Kubernetes, all parts in one program.
    kubernetes: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) namespace: Namespace,
    pub(super) pki: Pki,
}

impl Node {
    /// The node's address.
    pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
    /// The API server's Service: the first address of those of Services.
    pub(super) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
    /// CoreDNS's Service.
    pub(super) const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

    /// A network, a directory and certificates; nothing runs yet.
    pub(super) fn new(kubernetes: PathBuf) -> Result<Self> {
        let name = remains::own_name();
        let directory = remains::directory(&name);
        fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
        for group in remains::cgroups(&name) {
            fs::create_dir_all(&group).with_context(|| format!("create {}", group.display()))?;
        }
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
        Ok(Self {
            name,
            kubernetes,
            directory,
            namespace,
            pki,
        })
    }

    /// A part of Kubernetes, on the node.
    pub(super) fn part(&self, name: &str) -> Command {
        let mut command = self.namespace.command(&self.kubernetes);
        command.arg(name);
        command
    }

    /// kubectl as the cluster's administrator.
    pub(super) fn kubectl(&self) -> Command {
        let mut command = self.part("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.pki.kubeconfig("admin"))
            // Its caches and preferences are not this machine's user's.
            .env("HOME", &self.directory);
        command
    }

    pub(super) fn etcd(&self) -> Result<Process> {
        let mut command = self.part("etcd");
        command
            .arg("--data-dir")
            .arg(self.directory.join("etcd"))
            // Nothing here is to survive the machine.
            .args(["--unsafe-no-fsync", "--log-level=warn"]);
        Process::spawn("etcd", command)
    }

    pub(super) fn api_server(&self) -> Result<Process> {
        let mut command = self.part("kube-apiserver");
        command
            .arg(format!("--advertise-address={}", Self::ADDRESS))
            .args([
                "--etcd-servers=http://127.0.0.1:2379",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--authorization-mode=Node,RBAC",
                "--allow-privileged=true",
                // Or logs and exec ask DNS for the node's name.
                "--kubelet-preferred-address-types=InternalIP",
                "--service-account-issuer=https://kubernetes.default.svc",
            ])
            .arg(option("--cert-dir", &self.directory.join("apiserver")))
            .arg(option("--client-ca-file", &self.pki.certificate("ca")));
        for (certificate, key, of) in [
            ("--tls-cert-file", "--tls-private-key-file", "apiserver"),
            (
                "--kubelet-client-certificate",
                "--kubelet-client-key",
                "apiserver-kubelet",
            ),
        ] {
            command
                .arg(option(certificate, &self.pki.certificate(of)))
                .arg(option(key, &self.pki.key(of)));
        }
        // The public half is taken from a certificate, the private one from openssl's PKCS #8.
        let accounts = "service-accounts";
        command
            .arg(option(
                "--service-account-key-file",
                &self.pki.certificate(accounts),
            ))
            .arg(option(
                "--service-account-signing-key-file",
                &self.pki.key(accounts),
            ));
        Process::spawn("kube-apiserver", command)
    }

    pub(super) fn controller_manager(&self) -> Result<Process> {
        let mut command = self.part("kube-controller-manager");
        command
            .arg(option(
                "--kubeconfig",
                &self.pki.kubeconfig("controller-manager"),
            ))
            .arg(option(
                "--service-account-private-key-file",
                &self.pki.key("service-accounts"),
            ))
            .arg(option("--root-ca-file", &self.pki.certificate("ca")))
            .arg(option("--cert-dir", &self.directory.join("controllers")))
            .args([
                "--use-service-account-credentials=true",
                "--leader-elect=false",
            ]);
        Process::spawn("kube-controller-manager", command)
    }

    pub(super) fn scheduler(&self) -> Result<Process> {
        let mut command = self.part("kube-scheduler");
        command
            .arg(option("--kubeconfig", &self.pki.kubeconfig("scheduler")))
            .arg(option("--cert-dir", &self.directory.join("scheduler")))
            .arg("--leader-elect=false");
        Process::spawn("kube-scheduler", command)
    }

    pub(super) fn containerd(&self) -> Result<Process> {
        let directory = self.directory.display();
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
        fs::create_dir(self.directory.join("cni")).context("create CNI's directory")?;
        // Every packet between pods is routed by the node: one on a bridge would pass its
        // translation of Services' addresses by.
        let network = serde_json::json!({
            "cniVersion": "0.4.0",
            "name": self.name,
            "plugins": [{
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "subnet": PODS,
                    "routes": [{ "dst": "0.0.0.0/0" }],
                    "dataDir": self.directory.join("cni/addresses"),
                },
            }],
        });
        self.write("cni/10-pods.conflist", &network.to_string())?;

        let mut command = self.namespace.command("containerd");
        command.arg("--config").arg(config);
        let mut process = Process::spawn("containerd", command)?;
        process.wait_for("readiness", Duration::from_secs(30), |line| {
            line.text.contains("containerd successfully booted")
        })?;
        Ok(process)
    }

    /// Puts an image's archive where pods find it.
    pub(super) fn import(&self, archive: &Path) -> Result<()> {
        netns::run(
            Command::new("ctr")
                .arg("--address")
                .arg(self.directory.join("containerd.sock"))
                .args(["--namespace=k8s.io", "images", "import"])
                .arg(archive),
        )
        .map(drop)
    }

    /// Makes an image of a program, and puts it there.
    pub(super) fn import_program(&self, name: &str, program: &Path) -> Result<String> {
        let archive = image::archive(&self.directory, name, program)?;
        self.import(&archive)?;
        fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
        Ok(image::reference(name))
    }

    /// The process of this name in the control group of the pod with this uid.
    pub(super) fn process(&self, pod_uid: &str, name: &str) -> Option<u32> {
        let mut pids = remains::processes(&self.name, &self.directory).into_iter();
        let found = pids.find(|pid| {
            let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("comm").trim() == name && read("cgroup").contains(pod_uid)
        })?;
        u32::try_from(found.as_raw_nonzero().get()).ok()
    }

    pub(super) fn kubelet(&self) -> Result<Process> {
        let directory = self.directory.display();
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
# The machine's disk is not the test's business.
evictionHard: {{memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%"}}
imageGCHighThresholdPercent: 100
"#,
            ca = self.pki.certificate("ca").display(),
            name = self.name,
            dns = Self::DNS_SERVICE,
            resolver = resolver.display(),
        );
        let config = self.write("kubelet.yaml", &text)?;
        let mut command = self.part("kubelet");
        command
            .arg(option("--config", &config))
            .arg(option("--kubeconfig", &self.pki.kubeconfig("kubelet")))
            .arg(option("--root-dir", &self.directory.join("kubelet")))
            .arg(option("--cert-dir", &self.directory.join("kubelet-pki")))
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
# The machine's own, which the node's network cannot set.
conntrack: {{maxPerCore: 0}}
",
            self.pki.kubeconfig("proxy").display()
        );
        let config = self.write("proxy.yaml", &text)?;
        let mut command = self.part("kube-proxy");
        command.arg(option("--config", &config));
        Process::spawn("kube-proxy", command)
    }

    fn write(&self, file: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.join(file);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        remains::remove(&self.name);
    }
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// The pods' addresses.
const PODS: &str = "10.244.0.0/24";
