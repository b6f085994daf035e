//! The dashboards of `deploy/grafana` in a real Chromium, drawn by Grafana's own libraries.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{build, deploy, process::Process, prometheus::Prometheus};

/// The dashboards of `deploy/grafana`, drawn by Grafana's own libraries.
#[derive(Debug)]
pub struct Dashboards {
    home: PathBuf,
    prometheus: SocketAddr,
}

// === impl Dashboards ===

impl Dashboards {
    /// Installs the drawing program, once, and shows the dashboards with data of this Prometheus.
    pub fn of(prometheus: &Prometheus) -> Result<Self> {
        Ok(Self {
            home: build::dashboard()?,
            prometheus: prometheus.relay()?,
        })
    }

    /// Serves them for a browser at this address, until the process is dropped.
    pub fn serve(&self, listen: SocketAddr) -> Result<Process> {
        let mut command = self.command();
        command.args(["--listen", &listen.to_string()]);
        let mut process = Process::spawn("the dashboards", command)?;
        process.wait_event("listening", PATIENCE)?;
        Ok(process)
    }

    /// Takes a picture of one, of the last minutes. Fails if a panel has an error, or is empty and does
    /// not say why.
    pub fn picture(&self, name: &str, theme: &str, minutes: u32, to: &Path) -> Result<()> {
        let mut command = self.command();
        let query = format!("dashboard={name}&theme={theme}&from=now-{minutes}m");
        command.args(["--query", &query, "--picture"]).arg(to);
        let output = command.output().context("run node")?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        ensure!(
            output.status.success(),
            "dashboard {name}: {:?}",
            report.get("faults")
        );
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new("node");
        command
            .arg(self.home.join("render.mjs"))
            .arg(format!("--prometheus=http://{}", self.prometheus))
            .arg("--dashboards")
            .arg(deploy::directory().join("grafana"));
        command
    }
}

/// To bundle Grafana's libraries, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
