//! The `statlink` binary, as an operator runs it.

use std::{
    ffi::OsString,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    build,
    netns::{self, Namespace},
    process::Process,
    scratch,
};

/// How the agent is started. Everything else has its default.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Another build than `STATLINK_BIN`, or the one beside the running program.
    pub binary: Option<PathBuf>,
    /// The network namespace that it runs in; without one, the test's own.
    pub namespace: Option<Namespace>,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: Option<String>,
    /// `--namespace`: only activators of this one.
    pub activators_in: Option<String>,
    /// The only capabilities it has, as `setpriv` names them; without it, all of root's.
    pub capabilities: Option<&'static str>,
    /// More flags of `statlink run`.
    pub args: Vec<OsString>,
    /// More environment.
    pub env: Vec<(String, OsString)>,
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// Its process; its lines are its log.
    pub process: Process,
    socket: PathBuf,
    _directory: TempDir,
}

/// Names on the agent's command line, used only here.
mod names {
    pub(super) const BINARY: &str = "statlink";
    /// Overrides the path of the binary.
    pub(super) const BINARY_ENV: &str = "STATLINK_BIN";
    pub(super) const RUN: &str = "run";
    pub(super) const STATUS: &str = "status";
    pub(super) const EVENTS: &str = "events";
    pub(super) const JSON: &str = "--json";
    pub(super) const SOCKET: &str = "--socket";
    pub(super) const NAMESPACE: &str = "--namespace";
    pub(super) const ENDPOINT_ENV: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
}

// === impl Options ===

impl Options {
    /// Adds a flag, or a flag's value.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

// === impl Agent ===

impl Agent {
    /// Starts it and waits until it answers on its status socket.
    pub fn start(options: &Options) -> Result<Self> {
        let mut agent = Self::spawn(options)?;
        agent.wait_ready(Duration::from_secs(10))?;
        Ok(agent)
    }

    /// Starts it and does not wait.
    pub fn spawn(options: &Options) -> Result<Self> {
        let directory = scratch::directory("agent")?;
        let socket = directory.path().join("status.sock");
        let binary = options.binary.clone().map_or_else(binary, Ok)?;
        let mut command = match options.capabilities {
            None => clean(binary, options.namespace.as_ref()),
            Some(only) => limited(binary, only, options.namespace.as_ref()),
        };
        command
            .arg(names::RUN)
            .arg(names::SOCKET)
            .arg(&socket)
            .args(&options.args);
        if let Some(namespace) = &options.activators_in {
            command.arg(names::NAMESPACE).arg(namespace);
        }
        if let Some(endpoint) = &options.endpoint {
            command.env(names::ENDPOINT_ENV, endpoint);
        }
        command.envs(options.env.iter().map(|(name, value)| (name, value)));
        let process = Process::spawn("statlink run", command)?;
        Ok(Self {
            process,
            socket,
            _directory: directory,
        })
    }

    /// Waits until it answers on its status socket.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while UnixStream::connect(&self.socket).is_err() {
            let alive = self.process.is_running() && Instant::now() < deadline;
            ensure!(
                alive,
                "not ready within {timeout:?}: {}",
                self.process.describe()
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The output of `statlink status --json`.
    pub fn status(&self) -> Result<Value> {
        let mut command = command(None)?;
        command
            .args([names::STATUS, names::JSON, names::SOCKET])
            .arg(&self.socket);
        let text = netns::run(&mut command)?;
        serde_json::from_str(&text).with_context(|| format!("status is not JSON: {text}"))
    }

    /// The links of activators in it.
    pub fn activators(&self) -> Result<Vec<Value>> {
        let status = self.status()?;
        let links = status.get("links").and_then(Value::as_array);
        let links = links.with_context(|| format!("status has no links: {status}"))?;
        let of_activators = links
            .iter()
            .filter(|link| link.get("peer").is_some_and(|peer| peer == "autoscaler"));
        Ok(of_activators.cloned().collect())
    }

    /// A running `statlink events --json`: a line for each event from now on.
    pub fn events(&self) -> Result<Process> {
        let mut command = command(None)?;
        command
            .args([names::EVENTS, names::JSON, names::SOCKET])
            .arg(&self.socket);
        Process::spawn("statlink events", command)
    }

    /// SIGTERM, then its exit status.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.process.terminate(STOP)
    }

    /// Its status socket.
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }
}

/// The `statlink` binary: `STATLINK_BIN`, or the one beside the running program.
pub fn command(namespace: Option<&Namespace>) -> Result<Command> {
    Ok(clean(binary()?, namespace))
}

/// The same with only these capabilities, comma-separated, and no way to get more.
pub fn command_with(capabilities: &str, namespace: Option<&Namespace>) -> Result<Command> {
    Ok(limited(binary()?, capabilities, namespace))
}

fn limited(binary: PathBuf, capabilities: &str, namespace: Option<&Namespace>) -> Command {
    let kept: String = capabilities
        .split(',')
        .map(|name| format!(",+{name}"))
        .collect();
    let mut command = clean("setpriv".into(), namespace);
    command
        .arg(format!("--bounding-set=-all{kept}"))
        .args(["--inh-caps=-all", "--no-new-privs"])
        .arg(binary);
    command
}

fn binary() -> Result<PathBuf> {
    match std::env::var_os(names::BINARY_ENV) {
        Some(binary) => Ok(PathBuf::from(binary)),
        None => build::helper(names::BINARY).with_context(|| {
            format!(
                "build it with `cargo build`, or name it in {}",
                names::BINARY_ENV
            )
        }),
    }
}

fn clean(program: PathBuf, namespace: Option<&Namespace>) -> Command {
    let mut command = match namespace {
        Some(namespace) => namespace.command(program),
        None => Command::new(program),
    };
    // The machine's environment must not configure the agent under test.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("OTEL_") || (text.starts_with("STATLINK_") && text != names::BINARY_ENV)
        {
            command.env_remove(&name);
        }
    }
    command
}

/// The agent promises to end within 5 s; a busy machine gets more.
const STOP: Duration = Duration::from_secs(30);
