//! A real Prometheus with the rules of `deploy/`, which receives OTLP as configured in
//! `deploy/collector/prometheus.yaml`.

#![expect(
    clippy::indexing_slicing,
    reason = "what a JSON value does not have is null"
)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{build, deploy, netns::Namespace, process::Process, scratch, wait};

/// A Prometheus on a port of loopback in a namespace, or here.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    namespace: Option<Namespace>,
    address: SocketAddr,
    _directory: TempDir,
}

/// One series of an answer: its labels and its newest value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// An alert that is pending or firing.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Its labels, its name among them.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, filled in.
    pub annotations: BTreeMap<String, String>,
    /// Whether it fires.
    pub is_firing: bool,
}

// === impl Prometheus ===

impl Prometheus {
    /// Starts one that accepts OTLP, with all rules, and waits until it answers.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        Self::start_with(Some(namespace), "")
    }

    /// The same with more configuration, for what it scrapes.
    pub fn start_scraping(namespace: &Namespace, more: &str) -> Result<Self> {
        Self::start_with(Some(namespace), more)
    }

    /// The same in this namespace, with more configuration for what it scrapes. It also accepts
    /// remote write.
    pub fn start_here(more: &str) -> Result<Self> {
        Self::start_with(None, more)
    }

    /// Starts one at an address of a namespace, with the rules of this directory. `lookback` is how
    /// long a series keeps its last sample.
    pub fn start_at(
        namespace: &Namespace,
        address: SocketAddr,
        rules: &Path,
        lookback: Duration,
    ) -> Result<Self> {
        let lookback = format!("--query.lookback-delta={}s", lookback.as_secs());
        let config = configuration(rules)?;
        Self::spawn(Some(namespace), address, &config, &[&lookback])
    }

    fn start_with(namespace: Option<&Namespace>, more: &str) -> Result<Self> {
        let address = match namespace {
            Some(namespace) => namespace.run(free_port)??,
            None => free_port()?,
        };
        let config = configuration(&deploy::prometheus().join("rules"))? + more;
        Self::spawn(namespace, address, &config, &[])
    }

    fn spawn(
        namespace: Option<&Namespace>,
        address: SocketAddr,
        config: &str,
        more: &[&str],
    ) -> Result<Self> {
        let directory = scratch::directory("prometheus")?;
        let path = directory.path().join("prometheus.yaml");
        fs::write(&path, config).with_context(|| format!("write {}", path.display()))?;
        let program = build::prometheus()?;
        let mut command = match namespace {
            Some(namespace) => namespace.command(program),
            None => Command::new(program),
        };
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--web.enable-otlp-receiver")
            .arg("--web.enable-remote-write-receiver")
            .args(more);
        let mut process = Process::spawn("Prometheus", command)?;
        process.wait_for("readiness", Duration::from_secs(20), |line| {
            line.text.contains("ready to receive web requests")
        })?;
        Ok(Self {
            process,
            namespace: namespace.cloned(),
            address,
            _directory: directory,
        })
    }

    /// The endpoint for OTLP over HTTP, without `/v1/metrics`.
    pub fn otlp_endpoint(&self) -> String {
        format!("http://{}/api/v1/otlp", self.address)
    }

    /// The endpoint for remote write.
    pub fn remote_write_endpoint(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// Its address, in its namespace.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How many series it has in memory.
    pub fn series(&self) -> Result<u64> {
        let status = self.get("/api/v1/status/tsdb")?;
        let series = status["headStats"]["numSeries"].as_u64();
        series.context("no number of series")
    }

    /// How long each group of rules took when it was last evaluated, by its name.
    pub fn rule_times(&self) -> Result<Vec<(String, Duration)>> {
        let answer = self.get("/api/v1/rules")?;
        let groups = answer["groups"].as_array().into_iter().flatten();
        groups
            .map(|group| {
                let name = group["name"].as_str().context("a group without a name")?;
                let took = group["evaluationTime"].as_f64().context("no time")?;
                Ok((name.to_owned(), Duration::try_from_secs_f64(took)?))
            })
            .collect()
    }

    /// The number of series of an expression, evaluated at so many `steps` of the last `length` as a
    /// panel does.
    pub fn query_over(&self, expression: &str, length: Duration, steps: u32) -> Result<usize> {
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64();
        let start = now - length.as_secs_f64();
        let step = (length / steps.max(1)).as_secs_f64();
        let answer = self.get(&format!(
            "/api/v1/query_range?query={}&start={start}&end={now}&step={step}",
            encoded(expression)
        ))?;
        Ok(answer["result"].as_array().map_or(0, Vec::len))
    }

    /// The present value of an expression.
    pub fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let answer = self.get(&format!("/api/v1/query?query={}", encoded(expression)))?;
        let samples = answer["result"].as_array().into_iter().flatten();
        samples
            .map(|sample| {
                let value = sample["value"][1].as_str().context("no value")?;
                Ok(Sample {
                    labels: texts(&sample["metric"]),
                    value: value.parse().context("not a number")?,
                })
            })
            .collect()
    }

    /// The alerts that are pending or firing.
    pub fn alerts(&self) -> Result<Vec<Alert>> {
        let answer = self.get("/api/v1/alerts")?;
        let alerts = answer["alerts"].as_array().into_iter().flatten();
        let alerts = alerts.map(|alert| Alert {
            labels: texts(&alert["labels"]),
            annotations: texts(&alert["annotations"]),
            is_firing: alert["state"] == "firing",
        });
        Ok(alerts.collect())
    }

    /// Waits until an alert of this name fires.
    pub fn wait_firing(&self, name: &str, timeout: Duration) -> Result<Alert> {
        wait::until(&format!("alert {name}"), timeout, || self.firing(name))
    }

    /// Waits until no alert of this name fires any longer.
    pub fn wait_resolved(&self, name: &str, timeout: Duration) -> Result<()> {
        wait::until(&format!("end of alert {name}"), timeout, || {
            Ok(self.firing(name)?.is_none().then_some(()))
        })
    }

    fn firing(&self, name: &str) -> Result<Option<Alert>> {
        let mut alerts = self.alerts()?.into_iter();
        Ok(alerts.find(|alert| alert.is_firing && alert.name() == name))
    }

    /// Makes it reachable from this process's own namespace, at a port of loopback; returns the
    /// address.
    pub fn relay(&self) -> Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
        let here = listener.local_addr()?;
        let (namespace, there) = (self.namespace.clone(), self.address);
        // The thread ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A Prometheus that does not answer closes its client's connection.
                if let Ok(server) = connect(namespace.as_ref(), there) {
                    let _ = both_ways(client, server);
                }
            }
        });
        Ok(here)
    }

    /// The `data` of an answer.
    fn get(&self, path: &str) -> Result<Value> {
        let mut stream = connect(self.namespace.as_ref(), self.address)?;
        // HTTP/1.0, so that the end of the body is the end of the connection.
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").context("ask Prometheus")?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .context("read Prometheus' answer")?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let mut body: Value = serde_json::from_str(body).with_context(|| body.to_owned())?;
        ensure!(body["status"] == "success", "{path}: {body}");
        Ok(body["data"].take())
    }
}

// === impl Alert ===

impl Alert {
    /// Its name.
    pub fn name(&self) -> &str {
        self.labels.get("alertname").map_or("", String::as_str)
    }
}

/// `deploy/collector/prometheus.yaml`, and the rules of a directory.
fn configuration(rules: &Path) -> Result<String> {
    let path = deploy::directory().join("collector/prometheus.yaml");
    let mut text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let rules = rules.join("*.yaml");
    write!(text, "\nrule_files: [\"{}\"]\n", rules.display())?;
    Ok(text)
}

fn connect(namespace: Option<&Namespace>, to: SocketAddr) -> Result<TcpStream> {
    let connected = match namespace {
        Some(namespace) => namespace.run(|| TcpStream::connect(to))?,
        None => TcpStream::connect(to),
    };
    connected.with_context(|| format!("connect to {to}"))
}

/// Sends an export in JSON to an endpoint for OTLP over HTTP.
pub fn post(to: SocketAddr, path: &str, export: &Value) -> Result<()> {
    let body = export.to_string();
    let mut stream = connect(None, to)?;
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .context("send an export")?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .context("read the answer")?;
    let status = answer.split_whitespace().nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "{path}: {answer}");
    Ok(())
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn texts(object: &Value) -> BTreeMap<String, String> {
    let pairs = object.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn both_ways(client: TcpStream, server: TcpStream) -> io::Result<()> {
    for (mut from, mut to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to); // either side may go at any time
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
    Ok(())
}
