//! The stage: the cluster, the agent as an operator installs it, and the Prometheus behind it.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use statlink_tests::{
    cluster::{Cluster, GATEWAY, KNATIVE, NODE},
    deploy,
    prometheus::Prometheus,
    wait,
};
use tempfile::TempDir;

use crate::{
    rules::Rules,
    watch::{Labels, Watch},
};

/// The whole stage. The Prometheus is dropped first.
pub(crate) struct Place {
    prometheus: Option<(Rc<Prometheus>, TempDir)>,
    pub(crate) cluster: Cluster,
    pub(crate) rules: Rules,
    begin: Instant,
}

impl Place {
    /// Starts the cluster, the gateway, the agent by its chart, and the activators.
    pub(crate) fn set_up() -> Result<Self> {
        let begin = Instant::now();
        let image = std::env::var_os("STATLINK_IMAGE").map(PathBuf::from);
        let image = image.context("STATLINK_IMAGE names no archive; run `cargo xtask alerts`")?;
        let mut cluster = Cluster::start()?;
        cluster.import_image(&image)?;
        cluster.deploy_gateway(prometheus_address())?;
        let chart = deploy::chart().display().to_string();
        // Only the values that the chart's users set: exports every 10 s, gzip.
        let values = format!(
            "image.repository=statlink,image.tag=dev,otlp.endpoint={GATEWAY},clusterName={CLUSTER},\
             security.profile=restricted"
        );
        let install = ["install", AGENT, &chart, "--namespace", AGENT];
        cluster.helm(&[&install[..], &["--create-namespace", "--set", &values]].concat())?;
        cluster.rollout_status(AGENT, "daemonset/statlink", SOON)?;
        let mut place = Self {
            prometheus: None,
            cluster,
            rules: Rules::AsTaken,
            begin,
        };
        place.start_activators()?;
        Ok(place)
    }

    /// Enough activators that a fault of a few is not a fault of all. They request less than they
    /// would on nodes of their own.
    fn start_activators(&mut self) -> Result<()> {
        let spec = serde_json::json!({ "spec": {
            "replicas": ACTIVATORS,
            "template": { "spec": { "containers": [
                { "name": "activator", "resources": { "requests": { "cpu": "10m" } } },
            ]}},
        }});
        let patch = spec.to_string();
        let change = ["patch", "deployment", "activator", "--namespace", KNATIVE];
        self.cluster
            .kubectl(&[&change[..], &["--patch", &patch]].concat())?;
        self.cluster
            .rollout_status(KNATIVE, "deployment/activator", SOON)?;
        self.wait_activators().map(drop)
    }

    /// Starts a Prometheus without a past, with these rules, and waits until it has every
    /// activator.
    pub(crate) fn watch_with(&mut self, rules: Rules) -> Result<()> {
        self.prometheus = None;
        self.rules = rules;
        let copy = rules.copy()?;
        let lookback = Duration::from_secs(rules.lookback());
        let namespace = self.cluster.namespace();
        let prometheus =
            Prometheus::start_at(namespace, prometheus_address(), copy.path(), lookback)?;
        self.prometheus = Some((Rc::new(prometheus), copy));
        self.say(&format!("a Prometheus; {}", rules.said()));
        self.settle()?;
        // Also Knative's own metric.
        wait::until("Knative's own metric of each activator", SETTLED, || {
            let known = self.prometheus()?.query("knative:reachable == 1")?;
            Ok((known.len() == ACTIVATORS).then_some(()))
        })
    }

    pub(crate) fn prometheus(&self) -> Result<Rc<Prometheus>> {
        let prometheus = self.prometheus.as_ref().context("no Prometheus runs")?;
        Ok(Rc::clone(&prometheus.0))
    }

    /// Begins to watch for alerts.
    pub(crate) fn watch(&self) -> Result<Watch> {
        Ok(Watch::new(self.prometheus()?, self.begin))
    }

    /// Waits until the rules show each activator connected, and no alert fires or is pending.
    pub(crate) fn settle(&self) -> Result<()> {
        self.settle_but(&[])
    }

    /// The same, except for alerts with these labels.
    pub(crate) fn settle_but(&self, lasting: &[Labels]) -> Result<()> {
        let activators: BTreeSet<_> = self.wait_activators()?.into_iter().collect();
        let mut last = String::new();
        let settled = wait::until("rest", SETTLED, || {
            let up = self.prometheus()?.query("statlink:reachable")?;
            let connected: BTreeSet<_> = up
                .iter()
                .filter(|link| link.value == 1.0)
                .filter_map(|link| link.labels.get("k8s_pod_name").cloned())
                .collect();
            let mut alerts = self.prometheus()?.alerts()?;
            alerts.retain(|alert| !lasting.contains(&alert.labels));
            last = format!("{connected:?} of {activators:?} are connected; {alerts:?}");
            Ok((connected == activators && alerts.is_empty()).then_some(()))
        });
        settled.with_context(|| last)
    }

    /// The names of the activators, once their number is right and none is terminating.
    pub(crate) fn wait_activators(&self) -> Result<Vec<String>> {
        wait::until("rest of the activators", SETTLED, || {
            let pods = self.pods("app=activator")?;
            let names: Vec<_> = pods.iter().map(|(name, _)| name.clone()).collect();
            let rests = pods.iter().all(|(_, is_ending)| !is_ending);
            Ok((rests && names.len() == ACTIVATORS).then_some(names))
        })
    }

    /// Knative's pods with a label: their names, and whether they are terminating.
    pub(crate) fn pods(&self, label: &str) -> Result<Vec<(String, bool)>> {
        let selector = format!("--selector={label}");
        let form = "--output=jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp}{\"\\n\"}{end}";
        let pods =
            self.cluster
                .kubectl(&["get", "pods", "--namespace", KNATIVE, &selector, form])?;
        let pods = pods.lines().filter_map(|line| line.split_once(' '));
        Ok(pods
            .map(|(name, deleted)| (name.to_owned(), !deleted.is_empty()))
            .collect())
    }

    /// The local address of an activator's connection to the autoscaler, as the kernel lists it.
    pub(crate) fn connection(&self, activator: &str) -> Result<Option<String>> {
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.cluster.pid(activator)?))
            .context("read an activator's connections")?;
        let found = table.lines().find_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (own, peer, state) = (fields.next()?, fields.next()?, fields.next()?);
            // 8080 and ESTABLISHED, in the table's hexadecimal.
            (peer.ends_with(":1F90") && state == "01").then(|| own.to_owned())
        });
        Ok(found)
    }

    /// Reports progress.
    pub(crate) fn say(&self, what: &str) {
        println!("{:>6.1} s  {what}", self.begin.elapsed().as_secs_f64());
    }
}

/// The address of the current Prometheus: the gateway sends there.
fn prometheus_address() -> SocketAddr {
    SocketAddr::from((NODE, 9090))
}

/// The agent's namespace, and the name of its release.
pub(crate) const AGENT: &str = "statlink";
/// The cluster's name in the agent's configuration.
pub(crate) const CLUSTER: &str = "testbed";
/// Four have a fault at a time, and two have none.
pub(crate) const ACTIVATORS: usize = 6;
/// Long enough for a pod to start or end on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(120);
/// An activator takes 45 s to end, and its successor connects within seconds. Rules and series show
/// that half a minute later, and a minute more after a restart.
pub(crate) const SETTLED: Duration = Duration::from_secs(240);
