//! Faults of the cluster, and how they are healed.

use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use statlink_tests::{build, cluster::KNATIVE, netns, wait};

use crate::place::{AGENT, Place, SOON};

/// How the node's packet filter treats an activator's packets to the autoscaler.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filter {
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
            Self::DropNew => format!("{to} tcp flags & (syn | ack) == syn drop"),
        }
    }
}

impl Place {
    /// Filters an activator's packets.
    pub(crate) fn filter(&self, activator: &str, filter: Filter) -> Result<()> {
        let address = self.address(KNATIVE, activator)?;
        self.add_filter(activator, &filter.rules(&address))
    }

    /// Lets only these pods make new connections to the autoscaler.
    pub(crate) fn filter_new_pods(&self, name: &str, known: &[String]) -> Result<()> {
        let known = known.iter().map(|pod| self.address(KNATIVE, pod));
        let known = known.collect::<Result<Vec<_>>>()?.join(", ");
        let autoscalers = "tcp dport 8080 tcp flags & (syn | ack) == syn";
        self.add_filter(
            name,
            &format!("ip saddr != {{ {known} }} {autoscalers} drop"),
        )
    }

    fn add_filter(&self, name: &str, rules: &str) -> Result<()> {
        let table = format!(
            "table inet {} {{\nchain forward {{\ntype filter hook forward priority 0\n{rules}\n}}\n}}\n",
            table_of(name)
        );
        self.cluster.namespace().nft(&table)
    }

    /// Removes the filter of this name.
    pub(crate) fn unfilter(&self, name: &str) -> Result<()> {
        let delete = format!("delete table inet {}\n", table_of(name));
        self.cluster.namespace().nft(&delete)
    }

    /// Destroys an activator's connection, like a CNI that ends connections to removed backends.
    pub(crate) fn destroy_connection(&self, activator: &str) -> Result<()> {
        let pid = self.pid(activator)?.to_string();
        netns::run(
            Command::new("nsenter")
                .args(["--target", &pid, "--net"])
                .args(["ss", "--kill", "--tcp", "dport = :8080"]),
        )
        .map(drop)
    }

    /// Sends a signal to an activator.
    pub(crate) fn signal(&self, activator: &str, signal: Signal) -> Result<()> {
        send(self.pid(activator)?, signal)
    }

    /// Kills an activator, and waits until the kubelet has started it again.
    pub(crate) fn kill_activator(&self, activator: &str) -> Result<()> {
        let old = self.pid(activator)?;
        send(old, Signal::KILL)?;
        wait::until("activator's next life", SOON, || {
            Ok(self.pid(activator).ok().filter(|pid| *pid != old))
        })
        .map(drop)
    }

    /// Kills the agent, and keeps it from restarting.
    pub(crate) fn take_agent_away(&self) -> Result<()> {
        let name = "--output=jsonpath={.items[0].metadata.name}";
        let of = "--selector=app.kubernetes.io/name=statlink";
        let get = ["get", "pods", "--namespace", AGENT, of, name];
        let pod = self.cluster.kubectl(&get)?;
        send(
            self.cluster.process(AGENT, pod.trim(), "statlink")?,
            Signal::KILL,
        )?;
        self.select_node(json!("nowhere"))?;
        wait::until("absence of the agent", SOON, || {
            let pods = self.cluster.kubectl(&[
                "get",
                "pods",
                "--namespace",
                AGENT,
                of,
                "--output=name",
            ])?;
            Ok(pods.trim().is_empty().then_some(()))
        })
    }

    /// Lets it run again.
    pub(crate) fn bring_agent_back(&mut self) -> Result<()> {
        self.select_node(serde_json::Value::Null)?;
        self.cluster
            .rollout_status(AGENT, "daemonset/statlink", SOON)
    }

    fn select_node(&self, name: serde_json::Value) -> Result<()> {
        let spec =
            json!({ "spec": { "template": { "spec": { "nodeSelector": { "only": name } } } } });
        let patch = spec.to_string();
        let change = ["patch", "daemonset", "statlink", "--namespace", AGENT];
        self.cluster
            .kubectl(&[&change[..], &["--type=merge", "--patch", &patch]].concat())
            .map(drop)
    }

    /// Drains a node of the pods with this label, which move to another node.
    pub(crate) fn drain(&self, selector: &str) -> Result<()> {
        let pods = format!("--pod-selector={selector}");
        let drain = ["drain", "node", &pods, "--ignore-daemonsets", "--force"];
        let patience = format!("--timeout={}s", 2 * SOON.as_secs()); // an activator takes 45 s to end
        let evicted = self.pods(selector)?.into_iter().map(|(name, _)| name);
        let evicted: Vec<_> = evicted.collect();
        let cluster = &self.cluster;
        std::thread::scope(|scope| {
            let drained = scope.spawn(|| {
                cluster.kubectl(&[&drain[..], &["--delete-emptydir-data", &patience]].concat())
            });
            // There is no other node, so this one accepts them as soon as they are terminating.
            let ending = wait::until("pods that are being ended", SOON, || {
                let pods = self.pods(selector)?;
                let is_ending = |name: &String| pods.iter().any(|(pod, is)| pod == name && *is);
                Ok(evicted.iter().all(is_ending).then_some(()))
            });
            let uncordoned = cluster.kubectl(&["uncordon", "node"]);
            ending?;
            uncordoned?;
            let drained = drained.join();
            drained.map_err(|_| anyhow::anyhow!("kubectl drain panicked"))?
        })
        .map(drop)
    }

    /// The autoscaler's name resolves to another server that speaks websocket; returns what undoes
    /// that.
    pub(crate) fn lead_elsewhere(&mut self) -> Result<String> {
        let program = build::parts()?.autoscaler;
        let image = self.cluster.import_program("elsewhere", &program)?;
        let image = format!("--image={image}");
        self.cluster
            .kubectl(&["run", "elsewhere", "--namespace=default", &image])?;
        let ready = ["wait", "pod/elsewhere", "--namespace=default"];
        let ready = [&ready[..], &["--for=condition=Ready", "--timeout=120s"]].concat();
        self.cluster.kubectl(&ready)?;
        let elsewhere = self.address("default", "elsewhere")?;
        let get = ["get", "configmap", "coredns", "--namespace=kube-system"];
        let get = [&get[..], &["--output=jsonpath={.data.Corefile}"]].concat();
        let right = self.cluster.kubectl(&get)?;
        let zone = "kubernetes cluster.local";
        let wrong = format!(
            "template IN A cluster.local {{\n match ^autoscaler[.]\n answer \"{{{{ .Name }}}} 5 IN A {elsewhere}\"\n}}\n{zone}"
        );
        self.set_corefile(&right.replacen(zone, &wrong, 1))?;
        Ok(right)
    }

    /// The name resolves to the autoscaler again, and the other server ends.
    pub(crate) fn lead_right(&mut self, corefile: &str) -> Result<()> {
        self.set_corefile(corefile)?;
        let delete = ["delete", "pod", "elsewhere", "--namespace=default", "--now"];
        self.cluster.kubectl(&delete).map(drop)
    }

    fn set_corefile(&mut self, text: &str) -> Result<()> {
        let patch = json!({ "data": { "Corefile": text } }).to_string();
        let change = ["patch", "configmap", "coredns", "--namespace=kube-system"];
        let change = [&change[..], &["--patch", &patch]].concat();
        self.cluster.kubectl(&change)?;
        self.roll_out("kube-system", "deployment/coredns")
    }

    /// Scales the name servers, and for 0 waits until none is left.
    pub(crate) fn scale_name_servers(&self, replicas: u32) -> Result<()> {
        let names = "deployment/coredns";
        self.cluster.scale("kube-system", names, replicas)?;
        if replicas > 0 {
            return Ok(());
        }
        let pods = ["get", "pods", "--namespace=kube-system"];
        let pods = [&pods[..], &["--selector=k8s-app=kube-dns", "--output=name"]].concat();
        wait::until("end of CoreDNS", SOON, || {
            let left = self.cluster.kubectl(&pods)?;
            Ok(left.trim().is_empty().then_some(()))
        })
    }
}

/// nft allows no dash in a name.
fn table_of(name: &str) -> String {
    name.replace('-', "_")
}

fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.context("no process id")?, signal).context("send a signal")
}
