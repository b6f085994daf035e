//! A real OpenTelemetry Collector, and everything that it received.

mod config;
mod decode;
mod exports;
mod follow;
mod operators;
mod registry;
mod tls;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Deref,
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

pub(crate) use self::{config::text as config_text, tls::sign};
pub use self::{
    exports::Exports,
    operators::{Configured, free_port},
    tls::Certificates,
};
use crate::{build, netns::Namespace, process::Process, scratch};

/// Attribute keys and values. All of ours are strings; others appear as their JSON text.
pub type Attributes = BTreeMap<String, String>;

/// A Collector and its exports.
#[derive(Debug)]
pub struct Collector {
    process: Option<Process>,
    namespace: Option<Namespace>,
    grpc: SocketAddr,
    http: SocketAddr,
    tls: bool,
    directory: TempDir,
    exports: Exports,
}

/// What its receivers require of a client: TLS, with files in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
    /// The authority of client certificates, if one is required.
    pub client_ca: Option<PathBuf>,
}

/// One request that the Collector accepted.
#[derive(Clone, Debug)]
pub struct Export {
    /// When its line was read: some 20 ms after the Collector had it.
    pub arrived: SystemTime,
    /// The data points of a request with metrics.
    pub points: Vec<Point>,
    /// The records of a request with logs.
    pub logs: Vec<LogRecord>,
}

/// One data point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The metric's name.
    pub metric: String,
    /// The metric's unit.
    pub unit: String,
    /// The instrumentation scope's name.
    pub scope: String,
    /// The resource's attributes.
    pub resource: Attributes,
    /// The point's own attributes.
    pub attributes: Attributes,
    /// When the series began, if it says so.
    pub start: Option<SystemTime>,
    /// When it was observed.
    pub time: SystemTime,
    /// What was observed.
    pub value: Value,
}

/// A data point's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A gauge.
    Gauge(f64),
    /// A sum.
    Sum {
        /// Its value.
        value: f64,
        /// Whether it only grows.
        monotonic: bool,
        /// Whether it counts from `start`, not from the last export.
        cumulative: bool,
    },
    /// A histogram.
    Histogram {
        /// How many were recorded.
        count: u64,
        /// Their sum.
        sum: f64,
        /// Upper bounds of all buckets but the last.
        bounds: Vec<f64>,
        /// How many fell in each bucket.
        counts: Vec<u64>,
    },
}

/// One log record.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// When it happened, if it says so.
    pub time: Option<SystemTime>,
    /// `ERROR`, `INFO` and so on.
    pub severity: String,
    /// The event's name, or nothing.
    pub event: String,
    /// The text.
    pub body: String,
    /// The record's own attributes.
    pub attributes: Attributes,
    /// The resource's attributes.
    pub resource: Attributes,
}

// === impl Collector ===

impl Collector {
    /// Starts one on free ports of loopback in `namespace`, or here.
    pub fn start(namespace: Option<&Namespace>, tls: Option<&Tls>) -> Result<Self> {
        Self::start_with(namespace, tls, None)
    }

    /// The same; metrics also go on by OTLP over HTTP, to this endpoint.
    pub fn start_forwarding(namespace: &Namespace, to: &str) -> Result<Self> {
        Self::start_with(Some(namespace), None, Some(to))
    }

    fn start_with(
        namespace: Option<&Namespace>,
        tls: Option<&Tls>,
        forward: Option<&str>,
    ) -> Result<Self> {
        let (grpc, http) = match namespace {
            Some(namespace) => namespace.run(free_ports)??,
            None => free_ports()?,
        };
        let directory = scratch::directory("collector")?;
        let exports = directory.path().join("exports.jsonl");
        let text = config::text(grpc, http, &exports, tls, forward);
        let config = directory.path().join("config.yaml");
        std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let exports = Exports::follow(exports);
        let mut collector = Self {
            process: None,
            namespace: namespace.cloned(),
            grpc,
            http,
            tls: tls.is_some(),
            directory,
            exports,
        };
        collector.restart()?;
        Ok(collector)
    }

    /// Starts it again, on the same ports. Earlier exports are kept.
    pub fn restart(&mut self) -> Result<()> {
        const READY: &str = "Everything is ready";
        let parts = build::parts()?;
        let mut command = match &self.namespace {
            Some(namespace) => namespace.command(&parts.collector),
            None => Command::new(&parts.collector),
        };
        command
            .arg("--config")
            .arg(self.directory.path().join("config.yaml"));
        let mut process = Process::spawn("the Collector", command)?;
        process.wait_for("readiness", Duration::from_secs(15), |l| {
            l.text.contains(READY)
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it.
    pub fn stop(&mut self) -> Result<()> {
        let mut process = self
            .process
            .take()
            .context("the Collector is not running")?;
        process.terminate(Duration::from_secs(10)).map(drop)
    }

    /// Its process, to freeze or kill.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Its endpoint for OTLP over gRPC, as in `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn grpc_endpoint(&self) -> String {
        self.endpoint(self.grpc)
    }

    /// Its endpoint for OTLP over HTTP.
    pub fn http_endpoint(&self) -> String {
        self.endpoint(self.http)
    }

    fn endpoint(&self, address: SocketAddr) -> String {
        // Certificates name hosts.
        let (scheme, host) = if self.tls {
            ("https", "localhost")
        } else {
            ("http", "127.0.0.1")
        };
        format!("{scheme}://{host}:{}", address.port())
    }
}

impl Deref for Collector {
    type Target = Exports;

    fn deref(&self) -> &Exports {
        &self.exports
    }
}

// === impl Export ===

impl Export {
    /// Whether it has a resource with this attribute.
    fn is_of(&self, key: &str, value: &str) -> bool {
        let of_points = self.points.iter().map(|point| &point.resource);
        let of_logs = self.logs.iter().map(|log| &log.resource);
        of_points
            .chain(of_logs)
            .any(|resource| resource.get(key).is_some_and(|own| own == value))
    }
}

// === impl Point ===

impl Point {
    /// Whether it is of `metric` and has these attributes, among others.
    pub fn is(&self, metric: &str, attributes: &[(&str, &str)]) -> bool {
        self.metric == metric
            && attributes.iter().all(|&(key, value)| {
                self.attributes
                    .get(key)
                    .is_some_and(|own| own.as_str() == value)
            })
    }
}

// === impl Value ===

impl Value {
    /// The number itself; of a histogram, how many were recorded.
    #[expect(
        clippy::cast_precision_loss,
        reason = "no test records 2^53 of anything"
    )]
    pub fn number(&self) -> f64 {
        match self {
            Self::Gauge(value) | Self::Sum { value, .. } => *value,
            Self::Histogram { count, .. } => *count as f64,
        }
    }
}

/// Two free ports. If another program takes one before the Collector does, the Collector reports it and
/// the test fails.
fn free_ports() -> Result<(SocketAddr, SocketAddr)> {
    let any = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port");
    let (one, other) = (any()?, any()?);
    Ok((one.local_addr()?, other.local_addr()?))
}
