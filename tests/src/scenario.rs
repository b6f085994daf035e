//! A whole node in one value: network, autoscaler, Collector, agent, and any number of activators.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use statlink_tests::{fault::Reject, scenario::Bed, peer::Traffic};
//!
//! let mut bed = Bed::new()?;
//! bed.start_agent()?;
//! let activator = bed.activator("activator", Traffic::Idle)?;
//! bed.wait_reachable(&activator, 1, Duration::from_secs(10))?;
//!
//! let fault = bed.faults(&activator).reject_syn(Reject::HostUnreachable)?;
//! bed.faults(&activator).reset_established()?;
//! bed.wait_error(&activator, "disconnect", "connection_reset", Duration::from_secs(2))?;
//! bed.wait_error(&activator, "connect", "host_unreachable", Duration::from_secs(2))?;
//! fault.heal()?;
//! bed.wait_reachable(&activator, 1, Duration::from_secs(10))?;
//! bed.check_invariants()?;
//! # Ok(())
//! # }
//! ```

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    agent::{self, Agent},
    collector::{Attributes, Collector, Export, Point, Value},
    fault::Faults,
    netns::{Namespace, Network, Pod},
    peer::{Activator, Autoscaler, PORT, Traffic},
    prometheus::Prometheus,
    service::Service,
};

/// The node.
///
/// Fields are dropped in this order: clients first, the network last.
#[derive(Debug)]
pub struct Bed {
    /// The agent, once started.
    pub agent: Option<Agent>,
    /// The autoscaler, unless a test took it.
    pub autoscaler: Option<Autoscaler>,
    /// The Collector.
    pub collector: Collector,
    /// The autoscaler's pod, which stays when the autoscaler ends.
    pub autoscaler_pod: Pod,
    /// The node and its pods.
    pub network: Network,
}

/// The metrics' names.
pub mod metric {
    /// 1 or 0 for every link.
    pub const REACHABLE: &str = "kn.activator.stats.conn.reachable";
    /// Every check.
    pub const CHECKS: &str = "kn.activator.stats.conn.checks";
    /// Every failed check.
    pub const ERRORS: &str = "kn.activator.stats.conn.errors";
    /// Connections that reached *upgraded*.
    pub const CONNECTS: &str = "kn.activator.stats.conn.connects";
    /// Processes that the pod's client has had.
    pub const LIVES: &str = "kn.activator.stats.conn.lives";
    /// Retransmitted segments.
    pub const RETRANSMITS: &str = "kn.activator.stats.conn.retransmits";
    /// From connect() to upgraded or failed.
    pub const CONNECT_DURATION: &str = "kn.activator.stats.conn.connect.duration";
    /// Recorded at recovery.
    pub const OUTAGE_DURATION: &str = "kn.activator.stats.conn.outage.duration";
    /// Smoothed RTT of the live connection.
    pub const RTT: &str = "kn.activator.stats.conn.rtt";
    /// Since the peer was last heard.
    pub const SILENCE: &str = "kn.activator.stats.conn.silence";
}

impl Bed {
    /// A node with an autoscaler and a Collector; no agent yet.
    pub fn new() -> Result<Self> {
        let mut bed = Self::without_autoscaler()?;
        bed.start_autoscaler()?;
        Ok(bed)
    }

    /// The same without an autoscaler: its pod exists, and refuses connections.
    pub fn without_autoscaler() -> Result<Self> {
        Self::assemble(|node| Collector::start(Some(node), None))
    }

    /// [`Bed::new`], with a Prometheus on the node that gets everything from the Collector.
    pub fn with_prometheus() -> Result<(Self, Prometheus)> {
        Self::with_prometheus_that("")
    }

    /// The same with more configuration, for what it scrapes.
    pub fn with_prometheus_that(scrapes: &str) -> Result<(Self, Prometheus)> {
        let mut prometheus = None;
        let mut bed = Self::assemble(|node| {
            let started = prometheus.insert(Prometheus::start_scraping(node, scrapes)?);
            Collector::start_forwarding(node, &started.otlp_endpoint())
        })?;
        bed.start_autoscaler()?;
        Ok((bed, prometheus.context("no Prometheus was started")?))
    }

    fn assemble(collector: impl FnOnce(&Namespace) -> Result<Collector>) -> Result<Self> {
        let network = Network::new()?;
        let autoscaler_pod = network.pod("autoscaler")?;
        let collector = collector(network.node())?;
        Ok(Self {
            agent: None,
            autoscaler: None,
            collector,
            autoscaler_pod,
            network,
        })
    }

    /// Starts the autoscaler.
    pub fn start_autoscaler(&mut self) -> Result<()> {
        self.autoscaler = Some(Autoscaler::start(&self.autoscaler_pod)?);
        Ok(())
    }

    /// The autoscaler, which must exist.
    pub fn autoscaler(&mut self) -> Result<&mut Autoscaler> {
        self.autoscaler
            .as_mut()
            .context("the autoscaler was not started")
    }

    /// Options of an agent on this node, exporting to this Collector.
    pub fn agent_options(&self) -> agent::Options {
        agent::Options {
            namespace: Some(self.network.node().clone()),
            endpoint: Some(self.collector.grpc_endpoint()),
            // The agent sees every process of this machine; other beds' activators are not this
            // one's.
            activators_in: Some(self.network.system_namespace()),
            ..agent::Options::default()
        }
    }

    /// Starts the agent with [`Bed::agent_options`].
    pub fn start_agent(&mut self) -> Result<&mut Agent> {
        self.start_agent_with(&self.agent_options())
    }

    /// Starts the agent.
    pub fn start_agent_with(&mut self, options: &agent::Options) -> Result<&mut Agent> {
        Ok(self.agent.insert(Agent::start(options)?))
    }

    /// The autoscaler's address in IPv4.
    pub fn target(&self) -> SocketAddr {
        (self.autoscaler_pod.v4, PORT).into()
    }

    /// An activator in a new pod, dialling the autoscaler's IPv4 address.
    pub fn activator(&self, name: &str, traffic: Traffic) -> Result<Activator> {
        self.activator_to(name, self.target(), traffic)
    }

    /// An activator in a new pod, dialling `target`.
    pub fn activator_to(
        &self,
        name: &str,
        target: SocketAddr,
        traffic: Traffic,
    ) -> Result<Activator> {
        Activator::start(&self.network.pod(name)?, target, traffic)
    }

    /// A Service on the autoscaler's port, without endpoints yet.
    pub fn service(&self) -> Result<Service> {
        Service::new(self.network.node(), PORT)
    }

    /// The test client in a new pod, under the activator's name: `args` are those of `test_client`.
    pub fn stand_in(&self, name: &str, args: &[&str]) -> Result<Activator> {
        Activator::stand_in(&self.network.pod(name)?, args)
    }

    /// The faults of the link between this activator and the autoscaler.
    pub fn faults<'a>(&'a self, activator: &'a Activator) -> Faults<'a> {
        Faults::new(&activator.pod, &self.autoscaler_pod)
    }

    /// Waits until the agent exports that the link is reachable (1) or not (0); returns when the
    /// Collector had it.
    pub fn wait_reachable(
        &self,
        activator: &Activator,
        value: u8,
        timeout: Duration,
    ) -> Result<(SystemTime, Point)> {
        self.collector
            .wait_for(metric::REACHABLE, &link(&activator.pod), timeout, |point| {
                point.value == Value::Gauge(value.into())
            })
    }

    /// Waits until at least one error of this kind and cause was counted.
    pub fn wait_error(
        &self,
        activator: &Activator,
        kind: &str,
        cause: &str,
        timeout: Duration,
    ) -> Result<(SystemTime, Point)> {
        let mut attributes = link(&activator.pod).to_vec();
        attributes.extend([("kn.check.kind", kind), ("error.type", cause)]);
        self.collector
            .wait_for(metric::ERRORS, &attributes, timeout, |point| {
                point.value.number() >= 1.0
            })
    }

    /// Waits until the Collector has this many more liveness checks of the link. One comes every 5
    /// s, so earlier events have had their effect by then: tests that assert that nothing happened
    /// wait for this.
    pub fn wait_liveness_checks(
        &self,
        activator: &Activator,
        more: u32,
        timeout: Duration,
    ) -> Result<()> {
        let liveness = [&link(&activator.pod)[..], &[("kn.check.kind", "liveness")]].concat();
        let enough = self.collector.value(metric::CHECKS, &liveness) + f64::from(more);
        self.collector
            .wait_for(metric::CHECKS, &liveness, timeout, |point| {
                point.value.number() >= enough
            })
            .map(drop)
    }

    /// The activator's newest count of `metric` over all series with these attributes.
    pub fn count(&self, activator: &Activator, metric: &str, more: &[(&str, &str)]) -> f64 {
        let attributes = [&link(&activator.pod), more].concat();
        self.collector.total(metric, &attributes)
    }

    /// Checks the invariants of every export: errors ≤ checks for each link and kind, no counter
    /// ever falls, and `reachable` is 1 or 0.
    pub fn check_invariants(&self) -> Result<()> {
        let undecodable = self.collector.undecodable();
        ensure!(undecodable.is_empty(), "undecodable: {undecodable:?}");
        self.collector.read(check_exports)
    }
}

/// The attributes that name a pod's link.
pub fn link(pod: &Pod) -> [(&str, &str); 3] {
    [
        ("peer", "autoscaler"),
        ("k8s.namespace.name", &pod.system_namespace),
        ("k8s.pod.name", &pod.name),
    ]
}

/// The attributes that name the link of a pod's autoscaler to other autoscalers.
pub fn forwarding(pod: &Pod) -> [(&str, &str); 3] {
    let [_, namespace, pod] = link(pod);
    [("peer", "autoscaler-forwarder"), namespace, pod]
}

/// [`Bed::check_invariants`] for exports of any agent.
pub fn check_exports(exports: &[Export]) -> Result<()> {
    let mut counters =
        BTreeMap::<(String, Attributes, Option<SystemTime>), (SystemTime, f64)>::new();
    for (number, export) in exports.iter().enumerate() {
        let mut sums = BTreeMap::<Attributes, (f64, f64)>::new();
        for point in &export.points {
            let value = point.value.number();
            match point.metric.as_str() {
                metric::REACHABLE => ensure!(
                    value == 0.0 || value == 1.0,
                    "export {number}: reachable is neither 0 nor 1: {point:#?}"
                ),
                metric::ERRORS | metric::CHECKS => {
                    let mut of = point.attributes.clone();
                    of.remove("error.type");
                    let (errors, checks) = sums.entry(of).or_default();
                    *(if point.metric == metric::ERRORS {
                        errors
                    } else {
                        checks
                    }) += value;
                }
                _ => {}
            }
            if let Value::Sum {
                monotonic: true, ..
            } = point.value
            {
                let mut of = point.attributes.clone();
                of.extend(point.resource.clone());
                let counter = (point.metric.clone(), of, point.start);
                let other = counters.insert(counter, (point.time, value));
                let (at, other) = other.unwrap_or((point.time, 0.0));
                // An export that the agent gave up as late may arrive after its successor.
                let is_later = point.time >= at;
                ensure!(
                    is_later && value >= other || !is_later && value <= other,
                    "export {number}: fell, from or to {other}: {point:#?}"
                );
            }
        }
        for (of, (errors, checks)) in sums {
            ensure!(
                errors <= checks,
                "export {number}: {errors} errors of {checks} checks: {of:?}"
            );
        }
    }
    Ok(())
}
