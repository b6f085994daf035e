//! Network namespaces as pods, joined by a bridge on a namespace that plays the node.
//!
//! Each pod has `eth0` with an IPv4 and an IPv6 address and a default route to the node, which has the
//! bridge and forwards. All [`Network`]s use the same addresses: they are isolated from each other, so
//! tests can run in parallel.

use std::{
    cell::Cell,
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{cluster, process::is_alive, scratch};

/// A node and its pods.
#[derive(Debug)]
pub struct Network {
    tag: String,
    node: Namespace,
    pods: Cell<u8>,
}

/// One pod's place in a [`Network`].
#[derive(Clone, Debug)]
pub struct Pod {
    /// Unique on this machine: `<name>-<tag of the network>`.
    pub name: String,
    /// The Kubernetes namespace that it claims to be in; no other network has it.
    pub system_namespace: String,
    /// The pod's network namespace.
    pub namespace: Namespace,
    /// The pod's IPv4 address.
    pub v4: Ipv4Addr,
    /// The pod's IPv6 address.
    pub v6: Ipv6Addr,
    /// The node's namespace, where the other end of the pod's wire is.
    pub node: Namespace,
    /// The name of that end.
    pub node_interface: String,
}

/// A network namespace, removed when its last clone is dropped.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    file: File,
}

// === impl Network ===

impl Network {
    /// The node's address, the pods' gateway.
    pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    /// The node's IPv6 address.
    pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);

    /// A node without pods. Removes what killed runs left.
    pub fn new() -> Result<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        ensure!(
            rustix::process::geteuid().is_root(),
            "network namespaces need root; run the tests as root"
        );
        guard();
        sweep();

        let tag = format!(
            "{}-{}",
            std::process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        );
        let node = Namespace::new(&format!("{PREFIX}{tag}-node"))?;
        node.ip(&format!(
            "link set lo up\n\
             link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             addr add {}/24 dev br0\n\
             addr add {}/64 dev br0 nodad\n\
             link set br0 up\n",
            Self::NODE,
            Self::NODE_V6
        ))?;
        node.sysctl("net/ipv4/ip_forward", "1")?;
        // Traffic to a Service leaves by its incoming interface, and must not cause ICMP redirects.
        node.sysctl("net/ipv4/conf/all/send_redirects", "0")?;
        node.sysctl("net/ipv4/conf/br0/send_redirects", "0")?;
        node.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        Ok(Self {
            tag,
            node,
            pods: Cell::new(0),
        })
    }

    /// The Kubernetes namespace that its pods claim to be in.
    pub fn system_namespace(&self) -> String {
        format!("knative-serving-{}", self.tag)
    }

    /// The node's namespace.
    pub fn node(&self) -> &Namespace {
        &self.node
    }

    /// The part that makes this network's names unique on the machine.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// A new pod with the next addresses.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        let number = self
            .pods
            .get()
            .checked_add(1)
            .context("254 pods are enough")?;
        self.pods.set(number);
        let host = number.checked_add(1).context("254 pods are enough")?;
        let v4 = Ipv4Addr::new(10, 77, 0, host);
        let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host.into());

        let namespace = Namespace::new(&format!("{PREFIX}{}-{name}", self.tag))?;
        let node_interface = format!("pod{number}");
        self.node.ip(&format!(
            "link add {node_interface} type veth peer name eth0 netns {}\n\
             link set {node_interface} master br0 up\n",
            namespace.name()
        ))?;
        namespace.ip(&format!(
            "link set lo up\n\
             addr add {v4}/24 dev eth0\n\
             addr add {v6}/64 dev eth0 nodad\n\
             link set eth0 up\n\
             route add default via {}\n\
             route add default via {}\n",
            Self::NODE,
            Self::NODE_V6
        ))?;
        Ok(Pod {
            system_namespace: self.system_namespace(),
            name: format!("{name}-{}", self.tag),
            namespace,
            v4,
            v6,
            node: self.node.clone(),
            node_interface,
        })
    }
}

// === impl Namespace ===

impl Namespace {
    pub(crate) fn new(name: &str) -> Result<Self> {
        live().insert(name.to_owned());
        run(Command::new("ip").args(["netns", "add", name]))?;
        let path = Path::new(DIRECTORY).join(name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let namespace = Self(Arc::new(Inner {
            name: name.to_owned(),
            file,
        }));
        // Answer each rejected packet by ICMP, without the limit of one a second.
        namespace.sysctl("net/ipv4/icmp_ratelimit", "0")?;
        namespace.sysctl("net/ipv6/icmp/ratelimit", "0")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(self.name())
    }

    /// Its inode number, which identifies it in the kernel's records.
    pub fn inum(&self) -> Result<u64> {
        Ok(rustix::fs::fstat(&self.0.file)
            .context("stat a namespace")?
            .st_ino)
    }

    /// A command that will run inside. Unlike `ip netns exec`, it leaves /sys mounted as it is.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let inner = Arc::clone(&self.0);
        let enter = move || {
            move_into_link_name_space(inner.file.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(Into::into)
        };
        // SAFETY: between fork and exec the closure makes one system call on a descriptor that
        // it keeps open; it neither allocates nor locks.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs `f` inside, on a thread of its own.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    let file = self.0.file.as_fd();
                    move_into_link_name_space(file, Some(LinkNameSpaceType::Network))
                        .with_context(|| format!("enter {}", self.name()))?;
                    Ok(f())
                })
                .join()
                .map_err(|_| anyhow!("a closure panicked in {}", self.name()))?
        })
    }

    /// Runs a batch of `ip` commands inside.
    pub fn ip(&self, batch: &str) -> Result<()> {
        self.feed("ip", &["-batch", "-"], batch)
    }

    /// Runs an nftables script inside.
    pub fn nft(&self, script: &str) -> Result<()> {
        self.feed("nft", &["-f", "-"], script)
    }

    /// Reads a sysctl inside, named by its path under /proc/sys.
    pub fn read_sysctl(&self, path: &str) -> Result<String> {
        let path = Path::new("/proc/sys").join(path);
        let value = self.run(|| fs::read_to_string(&path))?;
        Ok(value
            .with_context(|| format!("read {}", path.display()))?
            .trim()
            .to_owned())
    }

    /// Writes a sysctl inside, named by its path under /proc/sys.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(path);
        self.run(|| fs::write(&path, value))?
            .with_context(|| format!("write {value:?} to {}", path.display()))
    }

    fn feed(&self, program: &str, args: &[&str], input: &str) -> Result<()> {
        let mut child = self
            .command(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {program} in {}", self.name()))?;
        // Dropped at the end of the statement, which is the end of its input.
        let written = child
            .stdin
            .take()
            .context("no input")?
            .write_all(input.as_bytes());
        let output = child
            .wait_with_output()
            .with_context(|| format!("wait for {program}"))?;
        if !output.status.success() || written.is_err() {
            bail!(
                "{program} in {} refused:\n{input}\n{}",
                self.name(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        remove(&self.name);
        live().remove(&self.name);
    }
}

/// Runs a command to its end; an error holds what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Removes the namespaces of test runs that have ended.
pub fn sweep() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else {
        return; // no namespace was ever made here
    };
    for name in entries.filter_map(|e| e.ok()?.file_name().into_string().ok()) {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok()) else {
            continue; // not ours
        };
        if !is_alive(owner) {
            remove(&name);
        }
    }
}

fn remove(name: &str) {
    if let Err(e) = run(Command::new("ip").args(["netns", "delete", name])) {
        // Another run may have removed it.
        if Path::new(DIRECTORY).join(name).exists() {
            eprintln!("testbed: left network namespace {name} behind: {e:#}");
        }
    }
}

/// Removes this process's namespaces and directories when a signal ends it.
pub(crate) fn guard() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let mut signals = match signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]) {
            Ok(signals) => signals,
            Err(e) => return eprintln!("testbed: an interrupt will leave namespaces behind: {e}"),
        };
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                cluster::remove_own();
                live().iter().for_each(|name| remove(name));
                scratch::remove_own();
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a signal ends the process; what it would leave has just been removed"
                )]
                std::process::exit(128_i32.saturating_add(signal));
            }
        });
    });
}

/// The namespaces that this process has made.
fn live() -> MutexGuard<'static, BTreeSet<String>> {
    static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

const DIRECTORY: &str = "/run/netns";

/// Followed by the process id of the run that owns the namespace.
pub(crate) const PREFIX: &str = "sl-";
