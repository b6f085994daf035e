//! Why a process could not be inspected.

use std::io;

use thiserror::Error;

/// Why a process could not be inspected.
#[derive(Debug, Error)]
pub(crate) enum DiscoveryError {
    /// `/proc` could not be read.
    #[error("{}; {}", self.problem(), self.cure())]
    Proc {
        /// The file or directory.
        path: String,
        /// Why reading it failed.
        source: io::Error,
    },
    /// The process could not be opened.
    #[error("{}; {}", self.problem(), self.cure())]
    Pidfd {
        /// The process.
        pid: u32,
        /// Why opening it failed.
        source: io::Error,
    },
}

impl DiscoveryError {
    /// What failed and why, without the cure.
    pub(crate) fn problem(&self) -> String {
        match self {
            Self::Proc { path, source } => format!("read {path}: {source}"),
            Self::Pidfd { pid, source } => format!("open a pidfd of process {pid}: {source}"),
        }
    }

    /// What to do about it.
    pub(crate) fn cure(&self) -> &'static str {
        match self {
            Self::Proc { .. } if self.is_refusal() => {
                "needs CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH for another user's process, and the \
                 host's pid namespace (hostPID in Kubernetes)"
            }
            Self::Proc { .. } => "mount /proc with its processes visible",
            Self::Pidfd { .. } => "needs Linux 5.3 or later",
        }
    }

    /// Whether the kernel denied access, as opposed to a process that is gone or a broken `/proc`.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Proc { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Pidfd { .. } => false,
        }
    }
}
