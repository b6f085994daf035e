//! Who dials on this node: activators, and whoever else there is a [`Peering`] of.
//!
//! `/proc` has the processes. What names one is the Kubernetes API, by the pod and container that
//! its control group names, or else its own environment: either is enough. What is found is
//! handed on as [`Dialler`]s; that one has ended is told by its pidfd, or by the API.

mod container;
pub mod kubernetes;
mod network_namespace;
mod proc;

use std::{collections::BTreeSet, io, net::IpAddr, os::fd::OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use thiserror::Error;
use tokio::io::unix::AsyncFd;

use self::{
    container::Container,
    kubernetes::{Directory, Named, News, Who},
    network_namespace::NodeNamespaces,
};
use crate::peering::Peering;

/// How diallers are told from other processes, and how they are named.
#[derive(Clone, Debug)]
pub struct Selector {
    /// The kinds of links that are watched; each tells its diallers by their process's name.
    pub peerings: Vec<Peering>,
    /// The environment variable that names its pod.
    pub pod_name_env: String,
    /// The environment variable that names its namespace.
    pub namespace_env: String,
    /// Only those in this namespace.
    pub namespace: Option<String>,
}

/// A running process whose links are watched.
#[derive(Debug)]
pub struct Dialler {
    /// Which of its links.
    pub peering: Peering,
    /// Its process id.
    pub pid: u32,
    /// Inode number of its network namespace; `None` where `/proc` withholds it.
    pub netns: Option<u32>,
    /// Its pod's name.
    pub pod: String,
    /// Its pod's namespace.
    pub namespace: String,
    /// Whether it is known to share its node's network.
    pub host_network: bool,
    /// Its pod's uid; `None` outside of Kubernetes.
    pub pod_uid: Option<String>,
    /// Tells when it has ended.
    pub life: Life,
}

/// Why a process could not be looked at.
#[derive(Debug, Error)]
pub enum DiscoveryError {
    /// `/proc` could not be read.
    #[error("read {path}: {source}{}", cure(source))]
    Proc {
        /// What was read.
        path: String,
        /// Why that failed.
        source: io::Error,
    },
    /// A handle on the process could not be had.
    #[error("open a pidfd of process {pid}: {source}; needs Linux 5.3 or later")]
    Pidfd {
        /// The process.
        pid: u32,
        /// Why that failed.
        source: io::Error,
    },
}

/// A process's life, held by a pidfd: it stays that process, whoever gets the number next.
#[derive(Debug)]
pub struct Life(AsyncFd<OwnedFd>);

impl Life {
    /// Takes hold of `pid`; `None` if there is no such process (any more).
    fn of(pid: u32) -> Result<Option<Self>, DiscoveryError> {
        let failed = |source| DiscoveryError::Pidfd { pid, source };
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        // SAFETY: the AsyncFd owns the descriptor and never gives it away.
        let registered = unsafe { AsyncFd::register(fd) };
        registered
            .map(|fd| Some(Self(fd)))
            .map_err(|error| failed(error.into()))
    }

    /// Returns once the process has ended.
    pub async fn ended(&self) -> io::Result<()> {
        // A pidfd becomes readable when its process ends, and stays so.
        self.0.readable().await.map(|_guard| ())
    }
}

/// Finds diallers, with what the Kubernetes API told so far.
#[derive(Debug)]
pub struct Discovery {
    selector: Selector,
    /// `None` without an API.
    directory: Option<Directory>,
    node_namespaces: NodeNamespaces,
}

/// What news of the API come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Uids of pods whose links' end is expected.
    pub ended: Vec<String>,
    /// Look at the processes again.
    pub rescan: bool,
    /// The peer's addresses have changed.
    pub addresses: bool,
}

impl Discovery {
    /// By `/proc` alone.
    pub fn new(selector: Selector) -> Self {
        Self {
            selector,
            directory: None,
            node_namespaces: NodeNamespaces::default(),
        }
    }

    /// With the API, whose news [`take`](Self::take) takes in.
    pub fn with_kubernetes(selector: Selector) -> Self {
        let containers = selector.peerings.iter().map(|of| of.container.clone());
        let directory = Some(Directory::new(containers));
        Self {
            selector,
            directory,
            node_namespaces: NodeNamespaces::default(),
        }
    }

    /// Which network namespaces are nodes', and which a pod's own.
    pub fn node_namespaces(&self) -> &NodeNamespaces {
        &self.node_namespaces
    }

    /// The same, to take in what is found out later.
    pub fn node_namespaces_mut(&mut self) -> &mut NodeNamespaces {
        &mut self.node_namespaces
    }

    /// Whether the API has told everything once, or is not asked.
    pub fn is_synced(&self) -> bool {
        self.directory.as_ref().is_none_or(Directory::is_synced)
    }

    /// Whether the Kubernetes API says who is who.
    pub fn asks_api(&self) -> bool {
        self.directory.is_some()
    }

    /// Whether the API has told this node's pods, or is not asked.
    pub fn knows_pods(&self) -> bool {
        self.directory.as_ref().is_none_or(Directory::knows_pods)
    }

    /// Takes in what the API told.
    pub(crate) fn take(&mut self, news: News) -> Update {
        let Some(directory) = &mut self.directory else {
            return Update::default();
        };
        let change = directory.take(news);
        Update {
            ended: change.ended,
            rescan: change.names,
            addresses: change.addresses,
        }
    }

    /// Every address of the peer; `None` while that is not known.
    pub fn peer_addresses(&self) -> Option<BTreeSet<IpAddr>> {
        self.directory.as_ref()?.peer_addresses()
    }

    /// Every dialler that runs now.
    ///
    /// A process that cannot be looked at is an error of its own; the others are found all the
    /// same.
    pub fn scan(&self) -> Result<Vec<Result<Dialler, DiscoveryError>>, DiscoveryError> {
        let pids = proc::pids().map_err(|source| DiscoveryError::Proc {
            path: "/proc".to_owned(),
            source,
        })?;
        Ok(pids
            .into_iter()
            .filter_map(|pid| self.inspect(pid).transpose())
            .collect())
    }

    /// The dialler that `pid` is, if it is one.
    pub fn inspect(&self, pid: u32) -> Result<Option<Dialler>, DiscoveryError> {
        let Some((row, peering)) = proc::comm(pid).and_then(|comm| self.selector.peering(&comm))
        else {
            return Ok(None);
        };
        // First hold the process, then read: what is read is then of the process held, or nothing.
        let Some(life) = Life::of(pid)? else {
            return Ok(None);
        };
        let container = proc::cgroup(pid).as_deref().and_then(Container::of);
        let Some(Named {
            pod,
            namespace,
            host_network,
        }) = self.name(pid, row, container.as_ref())?
        else {
            return Ok(None);
        };
        if !self.selector.admits(&namespace) {
            return Ok(None);
        }
        let netns = match proc::network_namespace(pid) {
            Ok(Some(netns)) => Some(netns),
            Ok(None) => return Ok(None),
            Err(DiscoveryError::Proc { source, .. }) if is_refusal(&source) => None,
            Err(error) => return Err(error),
        };
        Ok(Some(Dialler {
            peering: peering.clone(),
            pid,
            netns,
            pod,
            namespace,
            host_network,
            pod_uid: container.map(|container| container.pod_uid),
            life,
        }))
    }

    /// What a dialler of the peering in this place is called; `None` if it is none, or not known
    /// to be one yet.
    fn name(
        &self,
        pid: u32,
        row: usize,
        container: Option<&Container>,
    ) -> Result<Option<Named>, DiscoveryError> {
        if let (Some(directory), Some(container)) = (&self.directory, container) {
            match directory.who(container) {
                Who::Dialler { row: of, named } if of == row => return Ok(Some(named)),
                Who::Dialler { .. } | Who::Another => return Ok(None),
                Who::Unknown => {}
            }
        }
        match self.selector.name(pid) {
            // With the API, what it does not name, and nothing else can, is somebody else's, or
            // it will be named.
            Err(DiscoveryError::Proc { source, .. })
                if self.directory.is_some() && is_refusal(&source) =>
            {
                tracing::debug!(pid, "a process of a dialler's name has no name yet");
                Ok(None)
            }
            named => named,
        }
    }
}

impl Selector {
    /// Whose diallers' processes have this name, and its place.
    fn peering(&self, comm: &[u8]) -> Option<(usize, &Peering)> {
        let mut rows = self.peerings.iter().enumerate();
        rows.find(|(_, peering)| peering.process_name.as_bytes() == comm)
    }

    /// What a process's environment names, which says nothing of its network.
    fn name(&self, pid: u32) -> Result<Option<Named>, DiscoveryError> {
        let Some(environment) = proc::environment(pid)? else {
            return Ok(None);
        };
        let (Some(pod), Some(namespace)) = (
            environment.get(&self.pod_name_env),
            environment.get(&self.namespace_env),
        ) else {
            tracing::debug!(
                pid,
                "a process of a dialler's name has no {} or no {} in its environment: not a dialler",
                self.pod_name_env,
                self.namespace_env,
            );
            return Ok(None);
        };
        Ok(Some(Named {
            pod,
            namespace,
            host_network: false,
        }))
    }

    fn admits(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|only| only == namespace)
    }
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn cure(error: &io::Error) -> &'static str {
    if is_refusal(error) {
        "; needs CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH for another user's, and the host's pid namespace"
    } else {
        ""
    }
}
