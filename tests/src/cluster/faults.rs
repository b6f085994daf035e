//! What goes wrong between an activator and the autoscaler, and how it is healed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{Cluster, KNATIVE, PATIENCE};
use crate::{build, wait};

/// How the node's packet filter treats an activator's packets to the autoscaler: a policy.
#[derive(Clone, Copy, Debug)]
pub enum Filter {
    /// Drops all packets, both ways.
    Drop,
    /// Drops all packets, and answers by ICMP that it is forbidden.
    Forbid,
    /// Answers each packet with a reset.
    Reset,
    /// Lets connections continue, but no new one succeed.
    DropNew,
}

impl Filter {
    fn rules(self, address: &str) -> String {
        let to = format!("ip saddr {address} tcp dport 8080");
        match self {
            Self::Drop => format!("{to} drop\nip daddr {address} tcp sport 8080 drop"),
            Self::Forbid => format!("{to} reject with icmp type admin-prohibited"),
            Self::Reset => format!("{to} reject with tcp reset"),
            Self::DropNew => format!("{to} {SYN} drop"),
        }
    }
}

impl Cluster {
    /// Filters an activator's packets.
    pub fn filter(&self, activator: &str, filter: Filter) -> Result<()> {
        let address = self.address(KNATIVE, activator)?;
        self.add_filter(activator, &filter.rules(&address))
    }

    /// Lets only these pods make new connections to the autoscaler.
    pub fn filter_new_pods(&self, name: &str, known: &[String]) -> Result<()> {
        let known = known.iter().map(|pod| self.address(KNATIVE, pod));
        let known = known.collect::<Result<Vec<_>>>()?.join(", ");
        self.add_filter(
            name,
            &format!("ip saddr != {{ {known} }} tcp dport 8080 {SYN} drop"),
        )
    }

    fn add_filter(&self, name: &str, rules: &str) -> Result<()> {
        let table = format!(
            "table inet {} {{\nchain forward {{\ntype filter hook forward priority 0\n{rules}\n}}\n}}\n",
            table_of(name)
        );
        self.namespace().nft(&table)
    }

    /// Removes the filter of this name.
    pub fn unfilter(&self, name: &str) -> Result<()> {
        let delete = format!("delete table inet {}\n", table_of(name));
        self.namespace().nft(&delete)
    }

    /// Scales the name servers to none, and waits until there are none.
    pub fn stop_name_servers(&self) -> Result<()> {
        self.scale(SYSTEM, NAMES, 0)?;
        let of = "--selector=k8s-app=kube-dns";
        let pods = ["get", "pods", "--namespace", SYSTEM, of, "--output=name"];
        wait::until("end of CoreDNS", PATIENCE, || {
            let left = self.kubectl(&pods)?;
            Ok(left.trim().is_empty().then_some(()))
        })
    }

    /// Starts them again, and does not wait.
    pub fn start_name_servers(&self) -> Result<()> {
        self.scale(SYSTEM, NAMES, 1)
    }

    /// A wildcard record resolves the autoscaler's name to another server that speaks websocket; returns
    /// what [`Cluster::lead_right`] needs.
    pub fn lead_elsewhere(&mut self) -> Result<String> {
        let program = build::parts()?.autoscaler;
        let image = self.import_program("elsewhere", &program)?;
        let image = format!("--image={image}");
        self.kubectl(&["run", "elsewhere", "--namespace=default", &image])?;
        let ready = ["wait", "pod/elsewhere", "--namespace=default"];
        let ready = [&ready[..], &["--for=condition=Ready", "--timeout=120s"]].concat();
        self.kubectl(&ready)?;
        let elsewhere = self.address("default", "elsewhere")?;
        let get = ["get", "configmap", "coredns", "--namespace", SYSTEM];
        let get = [&get[..], &["--output=jsonpath={.data.Corefile}"]].concat();
        let right = self.kubectl(&get)?;
        let zone = "kubernetes cluster.local";
        let wrong = format!(
            "template IN A cluster.local {{\n match ^autoscaler[.]\n answer \"{{{{ .Name }}}} 5 IN A {elsewhere}\"\n}}\n{zone}"
        );
        let wrong = right.replacen(zone, &wrong, 1);
        ensure!(wrong != right, "no {zone} in {right}");
        self.set_corefile(&wrong)?;
        Ok(right)
    }

    /// The name resolves to the autoscaler again, and the other server ends.
    pub fn lead_right(&mut self, corefile: &str) -> Result<()> {
        self.set_corefile(corefile)?;
        let delete = ["delete", "pod", "elsewhere", "--namespace=default", "--now"];
        self.kubectl(&delete).map(drop)
    }

    fn set_corefile(&mut self, text: &str) -> Result<()> {
        let patch = json!({ "data": { "Corefile": text } }).to_string();
        let change = ["patch", "configmap", "coredns", "--namespace", SYSTEM];
        self.kubectl(&[&change[..], &["--patch", &patch]].concat())?;
        self.roll_out(SYSTEM, NAMES, PATIENCE)
    }

    /// Restarts a resource by a rollout, and waits for its end.
    pub fn roll_out(&mut self, namespace: &str, resource: &str, timeout: Duration) -> Result<()> {
        let restart = ["rollout", "restart", "--namespace", namespace, resource];
        self.kubectl(&restart)?;
        self.rollout_status(namespace, resource, timeout)
    }

    /// A pod's address.
    pub fn address(&self, namespace: &str, pod: &str) -> Result<String> {
        let form = "--output=jsonpath={.status.podIP}";
        let get = ["get", "pod", pod, "--namespace", namespace, form];
        let address = self.kubectl(&get)?.trim().to_owned();
        ensure!(!address.is_empty(), "{namespace}/{pod} has no address");
        Ok(address)
    }

    /// The process id of an activator.
    pub fn pid(&self, activator: &str) -> Result<u32> {
        self.process(KNATIVE, activator, "activator")
            .context("find an activator's process")
    }
}

/// nft allows no dash in a name.
fn table_of(name: &str) -> String {
    name.replace('-', "_")
}

/// What begins a connection.
const SYN: &str = "tcp flags & (syn | ack) == syn";
/// Where the name servers are.
const SYSTEM: &str = "kube-system";
const NAMES: &str = "deployment/coredns";
