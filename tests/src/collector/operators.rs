//! A Collector with one of the configurations that operators take.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{build, deploy, netns::Namespace, process::Process, scratch};

/// A Collector with a configuration of `deploy/collector`, on ports of loopback of its own.
#[derive(Debug)]
pub struct Configured {
    /// Where it takes OTLP over gRPC.
    pub grpc: SocketAddr,
    /// Where it takes OTLP over HTTP.
    pub http: SocketAddr,
    process: Option<Process>,
    namespace: Option<Namespace>,
    name: String,
    variable: (String, String),
    directory: TempDir,
}

impl Configured {
    /// Starts one in `namespace`, or here. `page`: where a Prometheus scrapes it, if it has a page.
    /// `variable`: where it sends what it takes.
    pub fn start(
        namespace: Option<&Namespace>,
        name: &str,
        page: SocketAddr,
        variable: (&str, &str),
    ) -> Result<Self> {
        let path = deploy::directory().join("collector").join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let [grpc, http, health] = match namespace {
            Some(namespace) => namespace.run(free_ports)??,
            None => free_ports()?,
        };
        let text = text
            .replace("0.0.0.0:4317", &grpc.to_string())
            .replace("0.0.0.0:4318", &http.to_string())
            .replace("0.0.0.0:13133", &health.to_string())
            .replace("0.0.0.0:8889", &page.to_string())
            // Its own metrics have a fixed port.
            .replace(
                "service:\n",
                "service:\n  telemetry: {metrics: {level: none}}\n",
            );
        let directory = scratch::directory("configured")?;
        let config = directory.path().join(name);
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let mut collector = Self {
            grpc,
            http,
            process: None,
            namespace: namespace.cloned(),
            name: name.to_owned(),
            variable: (variable.0.to_owned(), variable.1.to_owned()),
            directory,
        };
        collector.restart()?;
        Ok(collector)
    }

    /// Starts it again, on the same ports, once it has ended.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        let program = build::operators_collector()?;
        let mut command = match &self.namespace {
            Some(namespace) => namespace.command(program),
            None => Command::new(program),
        };
        let (variable, value) = &self.variable;
        command
            .arg("--config")
            .arg(self.directory.path().join(&self.name))
            .env(variable, value);
        let mut process = Process::spawn(self.name.clone(), command)?;
        process.wait_for("readiness", Duration::from_secs(30), |line| {
            line.text.contains("Everything is ready")
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it, if it runs.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.terminate(Duration::from_secs(30)).map(drop),
            None => Ok(()),
        }
    }

    /// The id of its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }
}

/// A free port of loopback. If another program takes it first, whoever was to have it says so.
pub fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}

fn free_ports() -> Result<[SocketAddr; 3]> {
    Ok([free_port()?, free_port()?, free_port()?])
}
