//! The dashboards of `deploy/grafana`: what they ask, and how they look in a real Chromium, drawn by Grafana's
//! own libraries.

use std::{
    fs,
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

/// One query of a dashboard, with values for its variables.
#[derive(Clone, Debug)]
pub struct Query {
    /// What is asked.
    pub expression: String,
    /// Whether a panel shows its course; else what it says now.
    pub is_range: bool,
}

/// The names of the dashboards.
pub const NAMES: [&str; 2] = ["agents", "links"];

/// A dashboard.
pub fn dashboard(name: &str) -> Result<Value> {
    let path = deploy::directory()
        .join("grafana")
        .join(format!("{name}.json"));
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// Every query of a dashboard: of its panels, its annotations and its variables.
pub fn queries(dashboard: &Value) -> Vec<Query> {
    let list = |of: &Value, pointer: &str| {
        let found = of.pointer(pointer).and_then(Value::as_array);
        found.cloned().unwrap_or_default()
    };
    let text = |of: &Value, pointer: &str| {
        let found = of.pointer(pointer).and_then(Value::as_str);
        found.map(str::to_owned)
    };
    let panels = list(dashboard, "/panels");
    let targets = panels.iter().flat_map(|panel| list(panel, "/targets"));
    let asked = targets.chain(list(dashboard, "/annotations/list"));
    let mut queries: Vec<Query> = asked
        .filter_map(|one| {
            Some(Query {
                expression: text(&one, "/expr")?,
                is_range: one.pointer("/range") == Some(&Value::Bool(true)),
            })
        })
        .collect();
    let variables = list(dashboard, "/templating/list");
    for variable in &variables {
        // label_values(METRIC{…}, LABEL)
        let query = text(variable, "/query/query");
        let inner = query
            .as_deref()
            .and_then(|q| q.strip_prefix("label_values("));
        if let Some((expression, _)) = inner.and_then(|inner| inner.rsplit_once(", ")) {
            queries.push(Query {
                expression: expression.to_owned(),
                is_range: false,
            });
        }
    }
    for query in &mut queries {
        query.expression = query
            .expression
            .replace("$__rate_interval", "5m")
            .replace("$__range", "3h");
        for name in variables.iter().filter_map(|v| text(v, "/name")) {
            let all = "\".*\"";
            query.expression = query.expression.replace(&format!("\"${name}\""), all);
        }
    }
    queries
}

/// To bundle Grafana's libraries, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
