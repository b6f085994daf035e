//! The two ends of the link, and their stand-ins. All run as the user of Knative's images.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::thread::{Gid, Uid, set_thread_gid, set_thread_groups, set_thread_uid};
use tempfile::TempDir;

use crate::{
    build,
    container::Container,
    netns::{self, Pod},
    process::{Line, Process},
    scratch,
};

/// The port of the link.
pub const PORT: u16 = 8080;

/// The stats that an activator sends to its autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// None: only pings.
    Idle,
    /// A stat message at this interval; the real one sends one a second.
    Every(Duration),
}

/// An activator pod: Knative's client, or a stand-in of the same name.
///
/// On SIGTERM, Knative's client closes its connection up to 10 s late: Shutdown() waits for its
/// reader, which ends at the read deadline, and meanwhile sends no ping.
#[derive(Debug)]
pub struct Activator {
    /// The pod that it runs in; its name is the value of `k8s.pod.name`.
    pub pod: Pod,
    /// Its process.
    pub process: Process,
    _program: Program,
}

/// An autoscaler pod: Knative's server.
#[derive(Debug)]
pub struct Autoscaler {
    /// The pod that it runs in.
    pub pod: Pod,
    /// Its process.
    pub process: Process,
    _program: Program,
}

/// A copy of a program that the activators' user can run: only root may be able to enter the
/// build's directories. All processes of one program share the copy, which the last of them
/// removes.
#[derive(Clone, Debug)]
struct Program {
    path: PathBuf,
    _directory: Arc<TempDir>,
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
        let (program, command) = Self::client(pod, url, traffic, args)?;
        Self::spawn(pod, program, command)
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
        let (program, mut command) = Self::client(pod, url, traffic, args)?;
        container.hold(&mut command)?;
        Self::spawn(pod, program, command)
    }

    fn client(
        pod: &Pod,
        url: &str,
        traffic: Traffic,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<(Program, Command)> {
        let program = Program::named("activator", &build::parts()?.activator)?;
        let mut command = pod.namespace.command(&program.path);
        command.args(["--autoscaler", url]).args(args);
        if let Traffic::Every(interval) = traffic {
            command
                .arg("--stats")
                .arg(format!("{}ms", interval.as_millis()));
        }
        command.envs(environment(pod));
        Ok((program, command))
    }

    /// The test client under the activator's name: it does what Knative's client cannot be made to
    /// do.
    pub fn stand_in(pod: &Pod, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Self> {
        let (program, command) = Self::test_client(pod, args)?;
        Self::spawn(pod, program, command)
    }

    /// The same inside a container.
    pub fn stand_in_in(
        container: &Container,
        pod: &Pod,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Self> {
        let (program, mut command) = Self::test_client(pod, args)?;
        container.hold(&mut command)?;
        Self::spawn(pod, program, command)
    }

    fn test_client(
        pod: &Pod,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<(Program, Command)> {
        let program = Program::named("activator", &build::helper("test_client")?)?;
        let mut command = pod.namespace.command(&program.path);
        command.args(args).envs(environment(pod));
        Ok((program, command))
    }

    fn spawn(pod: &Pod, program: Program, command: Command) -> Result<Self> {
        let mut process = Process::spawn(pod.name.clone(), as_user(command))?;
        process.wait_event("started", START)?;
        Ok(Self {
            pod: pod.clone(),
            process,
            _program: program,
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

    /// The same with Knative's forwarder: every second it sends a stat of each of `buckets` buckets
    /// to the bucket's owner, once [`own`](Self::own) has named one.
    pub fn start_forwarding(pod: &Pod, buckets: u32) -> Result<Self> {
        Self::start_with(pod, ["--buckets", &buckets.to_string()])
    }

    /// Makes the autoscaler in `pod` the owner of a bucket, for a forwarding one. The connection to
    /// the former owner closes up to 10 s later, like an [`Activator`]'s.
    pub fn own(&mut self, bucket: u32, pod: &Pod) -> Result<()> {
        self.process.say(&format!("{bucket} {}", pod.v4))
    }

    fn start_with(pod: &Pod, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Self> {
        let program = Program::named("autoscaler", &build::parts()?.autoscaler)?;
        let mut command = pod.namespace.command(&program.path);
        command
            .arg("--listen")
            .arg(format!(":{PORT}"))
            .args(args)
            .envs(environment(pod));
        let mut process = Process::spawn(pod.name.clone(), as_user(command))?;
        process.wait_event("listening", START)?;
        Ok(Self {
            pod: pod.clone(),
            process,
            _program: program,
        })
    }

    /// Ends it by SIGTERM and starts it again in the same pod: a rollout, as seen by clients that
    /// dial the pod's address.
    pub fn restart(&mut self) -> Result<()> {
        self.process.terminate(Duration::from_secs(10))?;
        *self = Self::start(&self.pod.clone())?;
        Ok(())
    }

    /// How many stat messages it has received.
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

/// A misbehaving server in `pod`: `args` are those of `bad_server`.
pub fn bad_server(pod: &Pod, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Process> {
    let binary: PathBuf = build::helper("bad_server")?;
    let mut command = pod.namespace.command(binary);
    command.args(args);
    let mut process = Process::spawn(format!("bad server of {}", pod.name), command)?;
    process.wait_event("listening", START)?;
    Ok(process)
}

/// Makes a command run as the user of Knative's images. Other preparations of the command that need
/// root (entering a namespace or a control group) must come before.
fn as_user(mut command: Command) -> Command {
    let drop_root = || {
        set_thread_groups(&[])?;
        set_thread_gid(Gid::from_raw(USER))?;
        set_thread_uid(Uid::from_raw(USER))?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes three system calls, in the only thread; it
    // neither allocates nor locks.
    unsafe { command.pre_exec(drop_root) };
    command
}

impl Program {
    /// A copy of `built` under this name: the agent knows processes by name.
    fn named(name: &str, built: &Path) -> Result<Self> {
        static COPIES: Mutex<BTreeMap<PathBuf, Weak<TempDir>>> = Mutex::new(BTreeMap::new());

        let mut copies = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = copies.get(built).and_then(Weak::upgrade);
        let directory = match shared {
            Some(directory) => directory,
            None => {
                let directory = scratch::directory(name)?;
                fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
                    .with_context(|| format!("open {} to all", directory.path().display()))?;
                // Not a link, which needs the same file system. Not copied by this process: a child
                // that another thread has just forked would still have the copy open for writing,
                // and running it would fail with ETXTBSY.
                let copy = directory.path().join(name);
                netns::run(Command::new("cp").arg(built).arg(&copy))?;
                fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))
                    .with_context(|| format!("open {} to all", copy.display()))?;
                let directory = Arc::new(directory);
                copies.insert(built.to_owned(), Arc::downgrade(&directory));
                directory
            }
        };
        Ok(Self {
            path: directory.path().join(name),
            _directory: directory,
        })
    }
}

/// The environment that the downward API gives Knative's containers.
fn environment(pod: &Pod) -> [(&'static str, String); 3] {
    [
        ("POD_NAME", pod.name.clone()),
        ("POD_IP", pod.v4.to_string()),
        ("SYSTEM_NAMESPACE", pod.system_namespace.clone()),
    ]
}

/// The user of Knative's images: `nonroot` of distroless.
const USER: u32 = 65_532;

const START: Duration = Duration::from_secs(10);
