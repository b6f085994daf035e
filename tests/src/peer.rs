//! The two ends of the link, and those that stand in for one of them.

use std::{
    ffi::OsStr,
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    build,
    container::Container,
    netns::Pod,
    process::{Line, Process},
    scratch,
};

/// The port of the link.
pub const PORT: u16 = 8080;

/// What an activator has to tell its autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Nothing: only pings.
    Idle,
    /// A stat message at this interval; the real one sends one a second.
    Every(Duration),
}

/// An activator pod: Knative's client, or a stand-in of the same name.
///
/// SIGTERM makes Knative's client close its connection, but only up to 10 s later: its Shutdown()
/// waits for the reader to give up, and sends no pings meanwhile.
#[derive(Debug)]
pub struct Activator {
    /// The pod that it runs in; its name is the value of `k8s.pod.name`.
    pub pod: Pod,
    /// Its process.
    pub process: Process,
    _directory: Option<TempDir>,
}

/// An autoscaler pod: Knative's server.
#[derive(Debug)]
pub struct Autoscaler {
    /// The pod that it runs in.
    pub pod: Pod,
    /// Its process.
    pub process: Process,
}

// === impl Activator ===

impl Activator {
    /// Knative's client, dialling `target`.
    pub fn start(pod: &Pod, target: SocketAddr, traffic: Traffic) -> Result<Self> {
        Self::start_with(pod, &format!("ws://{target}"), traffic, [] as [&str; 0])
    }

    /// The same with a URL and more flags, such as `--resolver` and `--drain`.
    pub fn start_with(
        pod: &Pod,
        url: &str,
        traffic: Traffic,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Self> {
        Self::spawn(pod, Self::client(pod, url, traffic, args)?)
    }

    /// Knative's client inside a container of a pod that a Kubernetes API knows.
    pub fn start_in(container: &Container, pod: &Pod, target: SocketAddr) -> Result<Self> {
        let url = format!("ws://{target}");
        Self::start_in_with(container, pod, &url, Traffic::Idle, [] as [&str; 0])
    }

    /// [`start_with`](Self::start_with) inside a container.
    pub fn start_in_with(
        container: &Container,
        pod: &Pod,
        url: &str,
        traffic: Traffic,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Self> {
        let mut command = Self::client(pod, url, traffic, args)?;
        container.hold(&mut command)?;
        Self::spawn(pod, command)
    }

    fn client(
        pod: &Pod,
        url: &str,
        traffic: Traffic,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Command> {
        let mut command = pod.namespace.command(build::parts()?.activator);
        command.args(["--autoscaler", url]).args(args);
        if let Traffic::Every(interval) = traffic {
            command
                .arg("--stats")
                .arg(format!("{}ms", interval.as_millis()));
        }
        command.envs(environment(pod));
        Ok(command)
    }

    fn spawn(pod: &Pod, command: Command) -> Result<Self> {
        let mut process = Process::spawn(pod.name.clone(), command)?;
        process.wait_event("started", START)?;
        Ok(Self {
            pod: pod.clone(),
            process,
            _directory: None,
        })
    }

    /// Our own dialler under the activator's name, for what Knative's client cannot be made to do.
    pub fn stand_in(pod: &Pod, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Self> {
        Self::stand_in_by(pod, None, args)
    }

    /// The same, run by the user of this id.
    pub fn stand_in_as(
        pod: &Pod,
        user: u32,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Self> {
        Self::stand_in_by(pod, Some(user), args)
    }

    fn stand_in_by(
        pod: &Pod,
        user: Option<u32>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Self> {
        // A hard link, so on the same file system: a symbolic one would show in /proc/PID/exe, and
        // a copy may still be open for writing in a child that another thread has just forked.
        let directory = scratch::directory_in(&build::directory()?, "dialler")?;
        let binary = directory.path().join("activator");
        let built = build::helper("dialler")?;
        fs::hard_link(&built, &binary).with_context(|| format!("link {}", built.display()))?;
        let mut command = match user {
            // After the namespace was entered, which only root may.
            Some(user) => {
                fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
                let mut command = pod.namespace.command("setpriv");
                let (user, group) = (format!("--reuid={user}"), format!("--regid={user}"));
                command.args([&user, &group, "--clear-groups"]).arg(binary);
                command
            }
            None => pod.namespace.command(binary),
        };
        command.args(args).envs(environment(pod));
        let mut process = Process::spawn(pod.name.clone(), command)?;
        process.wait_event("started", START)?;
        Ok(Self {
            pod: pod.clone(),
            process,
            _directory: Some(directory),
        })
    }

    /// Waits until Knative's own metric says that the autoscaler is reachable.
    pub fn wait_connected(&mut self, timeout: Duration) -> Result<Line> {
        self.wait_connected_after(0, timeout)
    }

    /// The same, of what was printed after `mark`.
    pub fn wait_connected_after(&mut self, mark: usize, timeout: Duration) -> Result<Line> {
        self.wait_native(mark, 1, timeout)
    }

    /// Waits until Knative's own metric says that the connection was lost, after `mark`.
    pub fn wait_lost_after(&mut self, mark: usize, timeout: Duration) -> Result<Line> {
        self.wait_native(mark, 0, timeout)
    }

    /// Waits for a failed dial whose error has this text, after `mark`.
    pub fn wait_dial_failed_after(
        &mut self,
        mark: usize,
        error: &str,
        timeout: Duration,
    ) -> Result<Line> {
        let what = format!("failed dial with {error:?}");
        self.process.wait_for_after(mark, &what, timeout, |line| {
            let text = line.get("error").as_str().unwrap_or_default();
            line.event() == Some("dial_failed") && text.contains(error)
        })
    }

    fn wait_native(&mut self, mark: usize, reachable: u64, timeout: Duration) -> Result<Line> {
        let what = format!("native reachable={reachable}");
        self.process.wait_for_after(mark, &what, timeout, |line| {
            line.event() == Some("native") && line.get("reachable") == reachable
        })
    }
}

// === impl Autoscaler ===

impl Autoscaler {
    /// Starts it and waits until it listens, on every address of both families.
    pub fn start(pod: &Pod) -> Result<Self> {
        Self::start_with(pod, [] as [&str; 0])
    }

    /// The same, and every second it forwards a stat of each of so many buckets to its owner, by
    /// Knative's forwarder, once [`own`](Self::own) has said who that is.
    pub fn start_forwarding(pod: &Pod, buckets: u32) -> Result<Self> {
        Self::start_with(pod, ["--buckets", &buckets.to_string()])
    }

    /// Tells a forwarding one that the autoscaler in `pod` owns a bucket from now on. It takes up
    /// to 10 s to close a connection to the one before: as of [`Activator`].
    pub fn own(&mut self, bucket: u32, pod: &Pod) -> Result<()> {
        self.process.say(&format!("{bucket} {}", pod.v4))
    }

    fn start_with(pod: &Pod, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Self> {
        let mut command = pod.namespace.command(build::parts()?.autoscaler);
        command
            .arg("--listen")
            .arg(format!(":{PORT}"))
            .args(args)
            .envs(environment(pod));
        let mut process = Process::spawn(pod.name.clone(), command)?;
        process.wait_event("listening", START)?;
        Ok(Self {
            pod: pod.clone(),
            process,
        })
    }

    /// Ends it by SIGTERM and starts it again in the same pod: what a rollout looks like to those
    /// that dial the pod's address.
    pub fn restart(&mut self) -> Result<()> {
        self.process.terminate(Duration::from_secs(10))?;
        *self = Self::start(&self.pod.clone())?;
        Ok(())
    }

    /// How many stat messages it has had.
    pub fn messages(&self) -> usize {
        self.process
            .lines()
            .iter()
            .filter(|line| line.event() == Some("message"))
            .count()
    }

    /// How many websockets it has upgraded.
    pub fn upgrades(&self) -> usize {
        self.process
            .lines()
            .iter()
            .filter(|line| line.event() == Some("upgraded"))
            .count()
    }

    /// Its address in IPv4.
    pub fn v4(&self) -> SocketAddr {
        (self.pod.v4, PORT).into()
    }

    /// Its address in IPv6.
    pub fn v6(&self) -> SocketAddr {
        (self.pod.v6, PORT).into()
    }

    /// Its IPv4 address as an IPv6 socket sees it.
    pub fn mapped(&self) -> SocketAddr {
        (IpAddr::from(self.pod.v4.to_ipv6_mapped()), PORT).into()
    }
}

/// A server that does not do what it should, in `pod`: `args` are those of `bad_server`.
pub fn bad_server(pod: &Pod, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Process> {
    let binary: PathBuf = build::helper("bad_server")?;
    let mut command = pod.namespace.command(binary);
    command.args(args);
    let mut process = Process::spawn(format!("bad server of {}", pod.name), command)?;
    process.wait_event("listening", START)?;
    Ok(process)
}

/// What the downward API gives the real ones.
fn environment(pod: &Pod) -> [(&'static str, String); 3] {
    [
        ("POD_NAME", pod.name.clone()),
        ("POD_IP", pod.v4.to_string()),
        ("SYSTEM_NAMESPACE", pod.system_namespace.clone()),
    ]
}

const START: Duration = Duration::from_secs(10);
