//! A cluster with an agent of each security profile, from the image and by the chart.

use std::path::PathBuf;

use anyhow::Context as _;
use statlink_tests::{
    cluster::{Cluster, KNATIVE, OTLP},
    collector::{Exports, Point, Value},
    deploy,
    scenario::{self, metric::REACHABLE},
    wait,
};

use crate::{SOON, result_table::Table};

/// All of it.
pub(crate) struct World {
    pub(crate) agents: [Agent; 2],
    pub(crate) table: Table,
    pub(crate) cluster: Cluster,
}

/// A release of the chart.
pub(crate) struct Agent {
    /// The value of `security.profile`, and the release's name and namespace.
    pub(crate) profile: &'static str,
    /// What it alone exported.
    pub(crate) exports: Exports,
}

impl World {
    /// Starts the cluster, and installs both agents with the image of `STATLINK_IMAGE`.
    pub(crate) fn start() -> Self {
        let mut cluster = Cluster::start().unwrap();
        let image = std::env::var_os("STATLINK_IMAGE").map(PathBuf::from);
        let image = image
            .context("STATLINK_IMAGE names no archive; run `cargo xtask test cluster`")
            .unwrap();
        cluster.import_image(&image).unwrap();
        let agents = ["privileged", "restricted"].map(|profile| Agent::install(&cluster, profile));
        for Agent { profile, .. } in &agents {
            let daemonset = format!("daemonset/{profile}");
            cluster.rollout_status(profile, &daemonset, SOON).unwrap();
        }
        Self {
            agents,
            table: Table::default(),
            cluster,
        }
    }

    /// The activators' pods that are not being deleted, once there are N.
    pub(crate) fn activators<const N: usize>(&self) -> [String; N] {
        let mut names = Vec::new();
        wait("activators", || {
            names = activators(&self.cluster);
            names.len() == N
        });
        names.try_into().unwrap()
    }

    /// Scales the activators, and waits until all are ready.
    pub(crate) fn scale_activators<const N: usize>(&mut self) -> [String; N] {
        let replicas = u32::try_from(N).unwrap();
        let activator = "deployment/activator";
        self.cluster.scale(KNATIVE, activator, replicas).unwrap();
        self.cluster
            .rollout_status(KNATIVE, activator, SOON)
            .unwrap();
        self.activators()
    }

    /// Scales the autoscaler, and does not wait.
    pub(crate) fn scale_autoscaler(&self, replicas: u32) {
        let autoscaler = "deployment/autoscaler";
        self.cluster.scale(KNATIVE, autoscaler, replicas).unwrap();
    }

    /// Restarts these Deployments of Knative by a rollout each, and waits for its end.
    pub(crate) fn rollout_restart(&mut self, names: &[&str]) {
        let resources = names.iter().map(|name| format!("deployment/{name}"));
        let resources: Vec<_> = resources.collect();
        for resource in &resources {
            let restart = ["rollout", "restart", "--namespace", KNATIVE, resource];
            self.cluster.kubectl(&restart).unwrap();
        }
        for resource in &resources {
            self.cluster
                .rollout_status(KNATIVE, resource, SOON)
                .unwrap();
        }
    }

    /// Deletes the autoscaler's pod; its Deployment makes another.
    pub(crate) fn delete_autoscaler(&self, more: &[&str]) {
        let delete = [
            "delete",
            "pod",
            "--namespace",
            KNATIVE,
            "--selector=app=autoscaler",
        ];
        self.cluster.kubectl(&[&delete, more].concat()).unwrap();
    }

    /// The names of pods with a label, those that are being deleted included.
    pub(crate) fn pods(&self, namespace: &str, label: &str) -> Vec<String> {
        let (selector, names) = (format!("--selector={label}"), "--output=name");
        let get = ["get", "pods", "--namespace", namespace, &selector, names];
        let names = self.cluster.kubectl(&get).unwrap();
        names.lines().map(str::to_owned).collect()
    }

    /// The process id of an activator.
    pub(crate) fn pid(&self, activator: &str) -> u32 {
        self.cluster.pid(activator).unwrap()
    }

    /// Waits until every agent exports that this link is reachable.
    pub(crate) fn wait_reachable(&self, activator: &str) {
        for agent in &self.agents {
            agent.wait_gauge(&self.cluster, 0, activator, 1.0);
        }
    }

    /// Waits until no agent exports this link any more.
    pub(crate) fn wait_ended(&self, activator: &str) {
        for Agent { exports, .. } in &self.agents {
            exports
                .wait_absent(REACHABLE, &series(activator), SOON)
                .unwrap();
        }
    }

    /// Checks what must hold in every export, from these on.
    pub(crate) fn check_invariants(&self, from: [usize; 2]) {
        for (Agent { exports, .. }, mark) in self.agents.iter().zip(from) {
            assert_eq!(exports.undecodable(), Vec::<String>::new());
            exports
                .read(|exports| scenario::check_exports(&exports[mark..]))
                .unwrap();
        }
    }
}

impl Agent {
    fn install(cluster: &Cluster, profile: &'static str) -> Self {
        let set = format!(
            "image.repository=statlink,image.tag=dev,otlp.endpoint={OTLP},otlp.exportInterval=1s,\
             otlp.logs=true,clusterName=testbed,security.profile={profile},\
             resourceAttributes.profile={profile},\
             logLevel=info\\,statlink::discovery=debug"
        );
        let chart = deploy::chart().display().to_string();
        let release = ["install", profile, &chart, "--namespace", profile];
        let values = ["--create-namespace", "--set", &set];
        cluster.helm(&[&release[..], &values].concat()).unwrap();
        Self {
            profile,
            exports: cluster.exports.of("profile", profile),
        }
    }

    /// Upgrades its release without a change: objects that were deleted are created again.
    pub(crate) fn upgrade(&self, cluster: &Cluster) {
        let chart = deploy::chart().display().to_string();
        let release = ["upgrade", self.profile, &chart, "--namespace", self.profile];
        cluster
            .helm(&[&release[..], &["--reuse-values"]].concat())
            .unwrap();
    }

    /// The output of a command of its program in its own pod.
    pub(crate) fn exec(&self, cluster: &Cluster, command: &[&str]) -> String {
        let daemonset = format!("daemonset/{}", self.profile);
        let pod = ["exec", "--namespace", self.profile, &daemonset, "--"];
        let command = [&pod, &["/statlink"][..], command].concat();
        cluster.kubectl(&command).unwrap()
    }

    /// Its log.
    pub(crate) fn log(&self, cluster: &Cluster) -> String {
        let daemonset = format!("daemonset/{}", self.profile);
        cluster
            .kubectl(&["logs", "--namespace", self.profile, &daemonset])
            .unwrap_or_else(|error| format!("{error:#}"))
    }

    /// Waits until its newest export, after `mark`, has this gauge.
    pub(crate) fn wait_gauge(&self, cluster: &Cluster, mark: usize, activator: &str, value: f64) {
        let wanted = |point: &Point| point.value == Value::Gauge(value);
        self.exports
            .wait_for_after(mark, REACHABLE, &series(activator), SOON, wanted)
            .map_err(|error| {
                let log = self.log(cluster);
                error.context(format!("the {} agent's log: {log}", self.profile))
            })
            .unwrap();
    }
}

/// The attributes of an activator's series.
pub(crate) fn series(activator: &str) -> [(&str, &str); 3] {
    [
        ("peer", "autoscaler"),
        ("k8s.namespace.name", KNATIVE),
        ("k8s.pod.name", activator),
    ]
}

/// Waits for a condition.
pub(crate) fn wait(what: &str, is_met: impl FnMut() -> bool) {
    assert!(soon(is_met), "no {what} in {SOON:?}");
}

/// Whether a condition is met soon.
pub(crate) fn soon(mut is_met: impl FnMut() -> bool) -> bool {
    wait::until("condition", SOON, || Ok(is_met().then_some(()))).is_ok()
}

fn activators(cluster: &Cluster) -> Vec<String> {
    let get = [
        "get",
        "pods",
        "--namespace",
        KNATIVE,
        "--selector=app=activator",
    ];
    let pods = cluster.kubectl(&[&get[..], &["--output=json"]].concat());
    let pods: serde_json::Value = serde_json::from_str(&pods.unwrap()).unwrap();
    let pods = pods["items"].as_array().unwrap().iter();
    pods.filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none())
        .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}
