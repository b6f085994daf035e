//! Where a fleet sends: a real Collector, by the configurations that operators take, and a real Prometheus with
//! all rules.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use statlink_tests::{
    collector::{Configured, free_port},
    dashboards, deploy,
    netns::{Namespace, Network},
    observe::Observed,
    prometheus::Prometheus,
};

use super::replay::To;

/// The way from the agents to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// A Collector that passes OTLP on: gateway.yaml
    Gateway,
    /// A Collector with a page that Prometheus scrapes: exporter.yaml
    Exporter,
    /// A Collector that writes to Prometheus: remote-write.yaml
    RemoteWrite,
    /// No Collector: the agents send to Prometheus
    Direct,
}

impl Way {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Gateway => "gateway, OTLP on",
            Self::Exporter => "gateway, scraped",
            Self::RemoteWrite => "gateway, remote write",
            Self::Direct => "no gateway",
        }
    }
}

/// One of them at work, in a network of its own.
pub(super) struct Place {
    pub(super) to: To,
    pub(super) prometheus: Prometheus,
    pub(super) collector: Option<Configured>,
    network: Network,
}

/// How much CPU time both have taken so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) collector: Duration,
    pub(super) prometheus: Duration,
}

impl Place {
    pub(super) fn start(way: Way) -> Result<Self> {
        let network = Network::new()?;
        let node = network.node();
        let page = node.run(free_port)??;
        let scrapes = match way {
            Way::Exporter => scrape_of(&page.to_string())?,
            Way::Gateway | Way::RemoteWrite | Way::Direct => String::new(),
        };
        let prometheus = Prometheus::start_scraping(node, &scrapes)?;
        let collector = |name, variable, to: &str| {
            Configured::start(Some(node), name, page, (variable, to)).map(Some)
        };
        let otlp = prometheus.otlp_endpoint();
        let write = prometheus.remote_write_endpoint();
        let collector = match way {
            Way::Gateway => collector("gateway.yaml", "PROMETHEUS_OTLP_ENDPOINT", &otlp)?,
            Way::Exporter => collector("exporter.yaml", "UNUSED", "")?,
            Way::RemoteWrite => collector("remote-write.yaml", "REMOTE_WRITE_ENDPOINT", &write)?,
            Way::Direct => None,
        };
        let to = match &collector {
            Some(collector) => To::Grpc(collector.grpc),
            None => To::Http(prometheus.address(), "/api/v1/otlp/v1/metrics"),
        };
        Ok(Self {
            to,
            prometheus,
            collector,
            network,
        })
    }

    pub(super) fn namespace(&self) -> &Namespace {
        self.network.node()
    }

    fn collector(&self) -> Option<Observed> {
        let pid = self.collector.as_ref().and_then(Configured::pid);
        pid.map(Observed::new)
    }

    pub(super) fn spent(&self) -> Result<Spent> {
        let of_collector = self.collector().map(|collector| collector.cpu());
        Ok(Spent {
            collector: of_collector.transpose()?.unwrap_or_default(),
            prometheus: Observed::new(self.prometheus.pid()).cpu()?,
        })
    }

    /// Resident memory of the Collector, and of Prometheus.
    pub(super) fn memory_mb(&self) -> Result<(f64, f64)> {
        let of_collector = self.collector().map(|collector| collector.resident_mb());
        let of_prometheus = Observed::new(self.prometheus.pid()).resident_mb()?;
        Ok((of_collector.transpose()?.unwrap_or_default(), of_prometheus))
    }

    /// The Collector's peak since it started.
    pub(super) fn peak_mb(&self) -> Result<f64> {
        let peak = self.collector().map(|collector| collector.peak_mb());
        Ok(peak.transpose()?.unwrap_or_default())
    }

    /// How many links are told to be down.
    pub(super) fn told_down(&self) -> Result<f64> {
        let down = "count(kn_activator_stats_conn_reachable == 0) or vector(0)";
        let answer = self.prometheus.query(down)?;
        Ok(answer.first().context("no answer")?.value)
    }

    /// How many nodes report.
    pub(super) fn told_nodes(&self) -> Result<f64> {
        let answer = self
            .prometheus
            .query("count(statlink_links) or vector(0)")?;
        Ok(answer.first().context("no answer")?.value)
    }
}

/// How long each query of the dashboards takes, as a panel asks it, and what it asks.
pub(super) fn asked(prometheus: &Prometheus, length: Duration) -> Result<Vec<(Duration, String)>> {
    let mut times = Vec::new();
    for name in dashboards::NAMES {
        for query in dashboards::queries(&dashboards::dashboard(name)?) {
            let start = std::time::Instant::now();
            if query.is_range {
                prometheus.query_over(&query.expression, length, STEPS)?;
            } else {
                prometheus.query(&query.expression)?;
            }
            times.push((start.elapsed(), query.expression));
        }
    }
    Ok(times)
}

fn scrape_of(page: &str) -> Result<String> {
    let path = deploy::directory().join("collector/scrape.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.replace("opentelemetry-collector.observability:8889", page))
}

/// A panel of Grafana has as many as it has pixels, or somewhat fewer.
const STEPS: u32 = 500;
