//! Who the activators of this node are.
//!
//! Today from `/proc` alone: an activator's environment names it. What is found is handed on as
//! [`Activator`]s; that one has ended is told by its pidfd.

mod proc;

use std::{io, os::fd::OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use statlink_ebpf::Source;
use thiserror::Error;
use tokio::io::unix::AsyncFd;

/// How activators are told from other processes, and how they are named.
#[derive(Clone, Debug)]
pub struct Selector {
    /// The process's name (`comm`).
    pub process_name: String,
    /// The environment variable that names its pod.
    pub pod_name_env: String,
    /// The environment variable that names its namespace.
    pub namespace_env: String,
    /// Only those in this namespace.
    pub namespace: Option<String>,
}

/// A running activator.
#[derive(Debug)]
pub struct Activator {
    /// Its process and network namespace.
    pub source: Source,
    /// Its pod's name.
    pub pod: String,
    /// Its pod's namespace.
    pub namespace: String,
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

impl Selector {
    /// Every activator that runs now.
    ///
    /// A process that cannot be looked at is an error of its own; the others are found all the
    /// same.
    pub fn scan(&self) -> Result<Vec<Result<Activator, DiscoveryError>>, DiscoveryError> {
        let pids = proc::pids().map_err(|source| DiscoveryError::Proc {
            path: "/proc".to_owned(),
            source,
        })?;
        Ok(pids
            .into_iter()
            .filter_map(|pid| self.inspect(pid).transpose())
            .collect())
    }

    /// The activator that `pid` is, if it is one.
    pub fn inspect(&self, pid: u32) -> Result<Option<Activator>, DiscoveryError> {
        if proc::comm(pid).as_deref() != Some(self.process_name.as_bytes()) {
            return Ok(None);
        }
        // First hold the process, then read: what is read is then of the process held, or nothing.
        let Some(life) = Life::of(pid)? else {
            return Ok(None);
        };
        let Some(environment) = proc::environment(pid)? else {
            return Ok(None);
        };
        let (Some(pod), Some(namespace)) = (
            environment.get(&self.pod_name_env),
            environment.get(&self.namespace_env),
        ) else {
            tracing::debug!(
                pid,
                "a process of the activator's name has no {} or no {} in its environment: not an activator",
                self.pod_name_env,
                self.namespace_env,
            );
            return Ok(None);
        };
        if self
            .namespace
            .as_ref()
            .is_some_and(|only| *only != namespace)
        {
            return Ok(None);
        }
        let Some(netns) = proc::network_namespace(pid)? else {
            return Ok(None);
        };
        Ok(Some(Activator {
            source: Source { netns, tgid: pid },
            pod,
            namespace,
            life,
        }))
    }
}

fn cure(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "; needs CAP_SYS_PTRACE and the host's pid namespace"
    } else {
        ""
    }
}
