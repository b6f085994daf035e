//! Faults of the cluster, and how they are healed.

use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use statlink_tests::{netns, wait};

use crate::place::{AGENT, Place, SOON};

impl Place {
    /// Destroys an activator's connection, like a CNI that ends connections to removed backends.
    pub(crate) fn destroy_connection(&self, activator: &str) -> Result<()> {
        let pid = self.cluster.pid(activator)?.to_string();
        netns::run(
            Command::new("nsenter")
                .args(["--target", &pid, "--net"])
                .args(["ss", "--kill", "--tcp", "dport = :8080"]),
        )
        .map(drop)
    }

    /// Sends a signal to an activator.
    pub(crate) fn signal(&self, activator: &str, signal: Signal) -> Result<()> {
        send(self.cluster.pid(activator)?, signal)
    }

    /// Kills an activator, and waits until the kubelet has started it again.
    pub(crate) fn kill_activator(&self, activator: &str) -> Result<()> {
        let old = self.cluster.pid(activator)?;
        send(old, Signal::KILL)?;
        wait::until("activator's next life", SOON, || {
            Ok(self.cluster.pid(activator).ok().filter(|pid| *pid != old))
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
                // One that is gone has ended.
                let stays = |(pod, is_ending): &(String, bool)| !is_ending && evicted.contains(pod);
                Ok((!pods.iter().any(stays)).then_some(()))
            });
            let uncordoned = cluster.kubectl(&["uncordon", "node"]);
            ending?;
            uncordoned?;
            let drained = drained.join();
            drained.map_err(|_| anyhow::anyhow!("kubectl drain panicked"))?
        })
        .map(drop)
    }
}

fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.context("no process id")?, signal).context("send a signal")
}
