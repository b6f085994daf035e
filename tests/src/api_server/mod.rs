//! etcd, an API server and an administrator's kubectl, shared by a cluster and a control plane
//! without nodes.

mod pki;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

pub(crate) use self::pki::Pki;
use crate::{
    netns::{self, Namespace},
    process::Process,
};

/// Where a Kubernetes runs, and its certificates.
#[derive(Clone, Debug)]
pub(crate) struct Kubernetes {
    /// The program with all parts: its first argument chooses one.
    pub(crate) program: PathBuf,
    /// Where it runs.
    pub(crate) namespace: Namespace,
    /// Where its files are.
    pub(crate) directory: PathBuf,
    /// Its certificates and kubeconfigs.
    pub(crate) pki: Pki,
}

/// An API server with its store; ended on drop.
#[derive(Debug)]
pub(crate) struct ApiServer {
    process: Option<Process>,
    _etcd: Process,
    of: Kubernetes,
    options: Vec<String>,
}

// === impl Kubernetes ===

impl Kubernetes {
    /// A command that runs one of its parts.
    pub(crate) fn part(&self, name: &str) -> Command {
        let mut command = self.namespace.command(&self.program);
        command.arg(name);
        command
    }

    /// kubectl as the cluster's administrator.
    fn kubectl(&self) -> Command {
        let mut command = self.part("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.pki.kubeconfig("admin"))
            // kubectl must not use the caches and preferences of this machine's user.
            .env("HOME", &self.directory);
        command
    }

    fn etcd(&self) -> Result<Process> {
        let mut command = self.part("etcd");
        command
            .arg("--data-dir")
            .arg(self.directory.join("etcd"))
            // Nothing here has to survive a crash of the machine.
            .args(["--unsafe-no-fsync", "--log-level=warn"]);
        Process::spawn("etcd", command)
    }

    fn api_server(&self, options: &[String]) -> Result<Process> {
        let mut command = self.part("kube-apiserver");
        command
            .args([
                "--etcd-servers=http://127.0.0.1:2379",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--authorization-mode=Node,RBAC",
                "--allow-privileged=true",
                "--service-account-issuer=https://kubernetes.default.svc",
            ])
            .arg(option("--cert-dir", &self.directory.join("apiserver")))
            .arg(option("--client-ca-file", &self.pki.certificate("ca")));
        for (certificate, key, of) in [
            ("--tls-cert-file", "--tls-private-key-file", "apiserver"),
            (
                "--kubelet-client-certificate",
                "--kubelet-client-key",
                "apiserver-kubelet",
            ),
            // The public half comes from a certificate, the private one from openssl's PKCS #8.
            (
                "--service-account-key-file",
                "--service-account-signing-key-file",
                "service-accounts",
            ),
        ] {
            command
                .arg(option(certificate, &self.pki.certificate(of)))
                .arg(option(key, &self.pki.key(of)));
        }
        command.args(options);
        Process::spawn("kube-apiserver", command)
    }
}

// === impl ApiServer ===

impl ApiServer {
    /// Starts both, with more `options` for the API server. It is not ready yet.
    pub(crate) fn start(of: &Kubernetes, options: &[&str]) -> Result<Self> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let etcd = of.etcd()?;
        Ok(Self {
            process: Some(of.api_server(&options)?),
            _etcd: etcd,
            of: of.clone(),
            options,
        })
    }

    /// Waits until it is ready.
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        let process = self.process.as_mut().context(STOPPED)?;
        let deadline = Instant::now() + START;
        loop {
            let answer = netns::run(self.of.kubectl().args(["get", "--raw", "/readyz"]));
            match answer {
                Ok(_) => return Ok(()),
                Err(_) if process.is_running() && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(100));
                }
                Err(error) => return Err(error.context(process.describe())),
            }
        }
    }

    /// Kills the API server, which ends all watches.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context(STOPPED)?;
        process.kill().map(drop)
    }

    /// Freezes it: its kernel goes on to accept and acknowledge for it, so that no watch ends.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.process.as_ref().context(STOPPED)?.freeze()
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.process.as_ref().context(STOPPED)?.thaw()
    }

    /// Starts it again, and waits until it answers.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.process = Some(self.of.api_server(&self.options)?);
        self.wait_ready()
    }

    /// Runs kubectl; returns its output.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Result<String> {
        netns::run(self.of.kubectl().args(args))
    }

    /// Creates or updates the objects of manifests in YAML or JSON; `more` arguments.
    pub(crate) fn apply(&self, manifests: &str, more: &[&str]) -> Result<String> {
        let mut child = self
            .of
            .kubectl()
            // A large definition would not fit into an annotation.
            .args(["apply", "--server-side", "--force-conflicts", "-f", "-"])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run kubectl apply")?;
        // Dropped at the end of the statement, which closes its input.
        let written = child
            .stdin
            .take()
            .context("no input")?
            .write_all(manifests.as_bytes());
        let output = child.wait_with_output().context("wait for kubectl apply")?;
        if !output.status.success() || written.is_err() {
            bail!(
                "kubectl apply refused: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// An option that names a file.
pub(crate) fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// Writes a file of the cluster; returns its path.
pub(crate) fn write(path: PathBuf, text: &str) -> Result<PathBuf> {
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

const STOPPED: &str = "the API server is not running";

/// It takes seconds on an idle machine.
const START: Duration = Duration::from_secs(120);
