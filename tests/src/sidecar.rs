//! A proxy in the activator's pod, such as a mesh's sidecar: haproxy behind a redirection, which
//! accepts the activator's connection whatever the autoscaler does.

use std::{
    fs,
    net::SocketAddrV4,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{fault::Fault, netns::Pod, process::Process};

/// While this exists, dials to the service inside the pod reach the proxy.
#[derive(Debug)]
pub struct Sidecar {
    pod: Pod,
    haproxy: Option<Process>,
    _redirection: Fault,
    directory: TempDir,
}

/// The proxy's behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It forwards everything to this address.
    Pass(SocketAddrV4),
    /// It answers with this HTTP status itself.
    Answer(u16),
}

impl Sidecar {
    /// Starts one in `pod` for dials to `service`.
    pub fn start(pod: &Pod, service: SocketAddrV4, rule: Rule) -> Result<Self> {
        let mut sidecar = Self {
            pod: pod.clone(),
            haproxy: None,
            _redirection: Fault::redirect(&pod.namespace, service, PORT)?,
            directory: tempfile::tempdir()?,
        };
        sidecar.replace(rule)?;
        Ok(sidecar)
    }

    /// Ends it by SIGKILL: dials are refused.
    pub fn kill(&mut self) {
        self.haproxy = None;
    }

    /// Ends it by SIGKILL, if it runs, and starts one with another rule.
    pub fn replace(&mut self, rule: Rule) -> Result<()> {
        self.kill();
        let rules = match rule {
            Rule::Pass(upstream) => format!("mode tcp\n  retries 0\n  server upstream {upstream}"),
            Rule::Answer(status) => format!("mode http\n  http-request deny deny_status {status}"),
        };
        let configuration = format!(
            "defaults\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
             listen sidecar\n  bind 127.0.0.1:{PORT}\n  {rules}\n"
        );
        let file = self.directory.path().join("haproxy.cfg");
        fs::write(&file, configuration).with_context(|| format!("write {}", file.display()))?;
        let mut command = self.pod.namespace.command("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let haproxy = self.haproxy.insert(Process::spawn("haproxy", command)?);
        // Not by a trial connection, which it would forward.
        let sockets = format!("/proc/{}/net/tcp", haproxy.pid());
        let start = Instant::now();
        while !listens(&fs::read_to_string(&sockets).unwrap_or_default()) {
            let waits = haproxy.is_running() && start.elapsed() < START;
            ensure!(waits, "no sidecar: {}", haproxy.describe());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Whether there is a listener on its port, by `/proc/PID/net/tcp`.
fn listens(sockets: &str) -> bool {
    const LISTEN: &str = "0A";
    let port = format!(":{PORT:04X}");
    sockets.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().unwrap_or_default();
        local.ends_with(&port) && fields.nth(1) == Some(LISTEN)
    })
}

/// The port on which it listens.
const PORT: u16 = 15_001;
const START: Duration = Duration::from_secs(10);
