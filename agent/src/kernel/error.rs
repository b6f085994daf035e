//! Why the kernel half is not in place: each says what failed, on what, why, and the cure.

use std::{error::Error, fmt, io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError, sys::SyscallError};
use thiserror::Error;

use super::{
    btf::BtfError,
    hooks::{Hook, HookError},
};
use crate::chain::chain;

/// Why the kernel half could not be loaded or read.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The kernel describes no types.
    #[error(
        "read the kernel's types from {path}: {source}; needs Linux 5.10 or later with CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoBtf {
        /// Where they should be.
        path: PathBuf,
        /// Why they are not.
        source: io::Error,
    },
    /// The kernel's types are not those the programs know.
    #[error(
        "resolve kernel structures in {path}: {source}; this kernel ({release}) is not supported yet, please report it"
    )]
    Layout {
        /// Where the types were read.
        path: PathBuf,
        /// What is missing or resized.
        source: BtfError,
        /// `uname -r`.
        release: String,
    },
    /// The kernel's process ids are not those seen here.
    #[error(
        "tell processes by the kernel's ids: this is not the host's pid namespace; set hostPID in Kubernetes, on nodes that are no containers themselves (kind's are)"
    )]
    PidNamespace,
    /// Maps could not be created or the object could not be read.
    #[error("create the maps of the kernel half: {reason}; {cure}")]
    Load {
        /// The kernel's answer.
        reason: String,
        /// What to do.
        cure: &'static str,
    },
    /// A program the agent cannot do without is not in place.
    #[error("attach {hook}: {missing}")]
    Hook {
        /// The program.
        hook: &'static str,
        /// Why not.
        missing: Missing,
    },
    /// A map could not be read or written.
    #[error("map {map}: {source}")]
    Map {
        /// The map's name.
        map: &'static str,
        /// The kernel's answer.
        source: MapError,
    },
    /// A program could not be run on demand.
    #[error("run {program}: {reason}")]
    Run {
        /// The program.
        program: &'static str,
        /// The kernel's answer.
        reason: String,
    },
    /// The reader of the ring could not be set up.
    #[error("wait for kernel records: {0}")]
    Ring(io::Error),
}

impl KernelError {
    pub(super) fn load(error: &EbpfError) -> Self {
        Self::Load {
            reason: chain(error),
            cure: cure(error_errno(error), "5.10"),
        }
    }
}

/// Why a hook is not in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The kernel's answer.
    pub reason: String,
    /// What to do.
    pub cure: &'static str,
}

impl Missing {
    pub(super) fn of(hook: &Hook, error: &HookError) -> Self {
        Self {
            reason: hook_reason(error),
            cure: match error {
                HookError::NoTracefs => NO_TRACEFS,
                HookError::NotInObject | HookError::Kernel(_) => {
                    cure(error_errno(error), hook.since)
                }
            },
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.cure)
    }
}

const NO_TRACEFS: &str = "mount tracefs at /sys/kernel/tracing, or give CAP_SYS_ADMIN so that the \
     agent mounts one of its own";

/// The kernel's answer in one line: the verifier's last words rather than all of them.
fn hook_reason(error: &HookError) -> String {
    if let HookError::Kernel(ProgramError::LoadError {
        io_error,
        verifier_log,
    }) = error
    {
        let log = verifier_log.to_string();
        let last = log
            .lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty() && !line.starts_with("processed "))
            .unwrap_or_default();
        return if last.is_empty() {
            format!("{io_error}")
        } else {
            format!("{io_error}: {last}")
        };
    }
    chain(error)
}

fn error_errno(error: &(dyn Error + 'static)) -> Option<i32> {
    if let Some(io) = error.downcast_ref::<io::Error>() {
        return io.raw_os_error();
    }
    if let Some(SyscallError { io_error, .. }) = error.downcast_ref() {
        return io_error.raw_os_error();
    }
    if let Some(ProgramError::LoadError { io_error, .. }) = error.downcast_ref() {
        return io_error.raw_os_error();
    }
    if let Some(HookError::Kernel(inner)) = error.downcast_ref() {
        return error_errno(inner);
    }
    if let Some(MapError::CreateError { io_error, .. }) = error.downcast_ref() {
        return io_error.raw_os_error();
    }
    error.source().and_then(error_errno)
}

fn cure(errno: Option<i32>, since: &'static str) -> &'static str {
    let io = errno.map(io::Error::from_raw_os_error);
    match io.as_ref().map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => {
            "needs the capabilities CAP_BPF and CAP_PERFMON (or root), and a kernel that is not locked down"
        }
        Some(io::ErrorKind::OutOfMemory) => {
            "needs about 1 MB of kernel memory: raise the memory limit or RLIMIT_MEMLOCK"
        }
        _ => match since {
            "5.11" => "needs Linux 5.11 or later",
            _ => "needs Linux 5.10 or later with BPF and BTF",
        },
    }
}
