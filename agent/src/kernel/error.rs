//! Why the kernel half is not in place: each error says what failed, why, and what to do.

use std::{borrow::Cow, error::Error, fmt, io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError, sys::SyscallError};

use super::{
    btf::BtfError,
    hooks::{Hook, HookError},
    version::KernelVersion,
};
use crate::chain::chain;

/// Why the kernel half could not be loaded or read.
///
/// It displays as `what: why; cure`.
#[derive(Debug)]
pub enum KernelError {
    /// The kernel describes no types.
    NoBtf {
        /// Where they should be.
        path: PathBuf,
        /// Why they are not.
        source: io::Error,
    },
    /// The kernel's types are not those that the programs know.
    Layout {
        /// Where the types were read.
        path: PathBuf,
        /// What is missing or resized.
        source: BtfError,
        /// `uname -r`.
        release: String,
    },
    /// The kernel's process ids are not those seen here.
    PidNamespace,
    /// Maps could not be created or the object could not be read.
    Load(Missing),
    /// A program that the agent cannot do without is not in place.
    Hook {
        /// The program.
        hook: &'static str,
        /// Why not.
        missing: Missing,
    },
    /// A map could not be read or written.
    Map {
        /// The map's name.
        map: &'static str,
        /// The kernel's answer.
        source: MapError,
    },
    /// A program could not be run on demand.
    Run {
        /// The program.
        program: &'static str,
        /// The kernel's answer.
        reason: String,
    },
    /// The reader of the ring could not be set up.
    Ring(io::Error),
}

impl KernelError {
    pub(super) fn load(error: &EbpfError) -> Self {
        Self::Load(Missing {
            reason: chain(error),
            cure: cure(error_errno(error), KernelVersion::OLDEST),
        })
    }

    /// What failed, and on what.
    pub fn what(&self) -> String {
        match self {
            Self::NoBtf { path, .. } => {
                format!("read the kernel's types from {}", path.display())
            }
            Self::Layout { path, .. } => {
                format!("resolve kernel structures in {}", path.display())
            }
            Self::PidNamespace => "tell processes by the kernel's ids".to_owned(),
            Self::Load(_) => "create the maps of the kernel half".to_owned(),
            Self::Hook { hook, .. } => format!("attach {hook}"),
            Self::Map { map, .. } => format!("map {map}"),
            Self::Run { program, .. } => format!("run {program}"),
            Self::Ring(_) => "wait for kernel records".to_owned(),
        }
    }

    /// Why: the kernel's answer, where it gave one.
    pub fn why(&self) -> String {
        match self {
            Self::NoBtf { source, .. } | Self::Ring(source) => chain(source),
            Self::Layout { source, .. } => chain(source),
            Self::PidNamespace => "this is not the host's pid namespace".to_owned(),
            Self::Load(missing) | Self::Hook { missing, .. } => missing.reason.clone(),
            Self::Map { source, .. } => chain(source),
            Self::Run { reason, .. } => reason.clone(),
        }
    }

    /// What to do; `None` where nothing is known to help.
    pub fn cure(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::NoBtf { .. } => "needs Linux 5.10 or later with CONFIG_DEBUG_INFO_BTF=y".into(),
            Self::Layout { release, .. } => {
                format!("this kernel ({release}) is not supported yet, please report it").into()
            }
            Self::PidNamespace => "set hostPID in Kubernetes, on nodes that are no containers \
                 themselves (kind's are)"
                .into(),
            Self::Load(missing) | Self::Hook { missing, .. } => missing.cure.as_ref().into(),
            Self::Map { .. } | Self::Run { .. } | Self::Ring(_) => return None,
        })
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what(), self.why())?;
        match self.cure() {
            Some(cure) => write!(f, "; {cure}"),
            None => Ok(()),
        }
    }
}

// No source: `why` has the whole chain.
impl Error for KernelError {}

/// Why a hook is not in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The kernel's answer.
    pub reason: String,
    /// What to do.
    pub cure: Cow<'static, str>,
}

impl Missing {
    pub(super) fn of(hook: &Hook, error: &HookError) -> Self {
        Self {
            reason: hook_reason(error),
            cure: match error {
                HookError::NoTracefs => NO_TRACEFS.into(),
                HookError::NotInObject | HookError::Kernel(_) => {
                    cure(error_errno(error), hook.since)
                }
            },
        }
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

/// What helps against `errno`, of a thing that kernels have since `since`.
fn cure(errno: Option<i32>, since: KernelVersion) -> Cow<'static, str> {
    let io = errno.map(io::Error::from_raw_os_error);
    match io.as_ref().map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => {
            "needs the capabilities CAP_BPF and CAP_PERFMON (or root), and a kernel that is not locked down".into()
        }
        Some(io::ErrorKind::OutOfMemory) => {
            "needs about 1 MB of kernel memory: raise the memory limit or RLIMIT_MEMLOCK".into()
        }
        _ if since > KernelVersion::OLDEST => format!("needs Linux {since} or later").into(),
        _ => format!("needs Linux {} or later with BPF and BTF", KernelVersion::OLDEST).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::hooks::HOOKS;

    fn hook(name: &str) -> &'static Hook {
        HOOKS.iter().find(|hook| hook.name == name).unwrap()
    }

    #[test]
    fn an_error_reads_as_what_why_and_cure() {
        let error = KernelError::Hook {
            hook: "enumerate",
            missing: Missing::of(hook("enumerate"), &HookError::NotInObject),
        };
        assert_eq!(
            error.to_string(),
            "attach enumerate: the object file has no such program; needs Linux 5.11 or later"
        );
        let ring = KernelError::Ring(io::Error::from_raw_os_error(9));
        assert_eq!(
            ring.to_string(),
            "wait for kernel records: Bad file descriptor (os error 9)"
        );
        assert_eq!(ring.cure(), None);
    }

    #[test]
    fn a_hook_older_than_the_oldest_kernel_asks_for_that_one() {
        for name in ["namespaces", "sample", "inet_sock_set_state"] {
            let missing = Missing::of(hook(name), &HookError::NotInObject);
            assert_eq!(
                missing.cure, "needs Linux 5.10 or later with BPF and BTF",
                "{name}"
            );
        }
    }

    #[test]
    fn what_the_kernel_refuses_takes_capabilities() {
        let refused = cure(Some(1), KernelVersion::new(5, 11));
        assert!(refused.contains("CAP_BPF and CAP_PERFMON"), "{refused}");
        let memory = cure(Some(12), KernelVersion::OLDEST);
        assert!(memory.contains("RLIMIT_MEMLOCK"), "{memory}");
    }
}
