//! Why the kernel half is not in place: each error says what failed, why, and what to do.

use std::{borrow::Cow, error::Error, fmt, io, path::PathBuf};

use aya::{
    EbpfError,
    maps::MapError,
    programs::{ProgramError, trace_point::TracePointError},
    sys::SyscallError,
};

use super::{
    btf::BtfError,
    hooks::{Hook, HookError},
    refusal::{CONFIDENTIALITY, Call, Cause, Surroundings, judge},
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
        Self::Load(Missing::refused(
            chain(error),
            refusal(error),
            KernelVersion::OLDEST,
        ))
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
            Self::Layout { release, .. } => unsupported(release).into(),
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

/// What to do about a kernel whose types are not those that the programs know. One that calls itself
/// older than all that are supported may have BTF and a ring buffer all the same: Red Hat's 4.18.
fn unsupported(release: &str) -> String {
    match KernelVersion::of(release) {
        Some(version) if version < KernelVersion::OLDEST => {
            format!(
                "needs Linux {} or later, and this is {release}",
                KernelVersion::OLDEST
            )
        }
        Some(_) | None => {
            format!("this kernel ({release}) is not supported yet, please report it")
        }
    }
}

/// Why a hook is not in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The kernel's answer.
    pub reason: String,
    /// What withholds it.
    pub cause: Cause,
    /// What to do.
    pub cure: Cow<'static, str>,
}

impl Missing {
    pub(super) fn of(hook: &Hook, error: &HookError) -> Self {
        Self::refused(hook_reason(error), refusal(error), hook.since)
    }

    /// `since`: the first kernel that has what was asked for.
    pub(super) fn refused(reason: String, refusal: Refusal, since: KernelVersion) -> Self {
        let Refusal {
            call,
            errno,
            helper_withheld,
        } = refusal;
        let mut around = Surroundings::of(call);
        if helper_withheld {
            // Nothing else withholds it, and in a container nothing else tells of it.
            around.lockdown = Some(CONFIDENTIALITY.to_owned());
        }
        let cause = judge(call, errno, since, &around);
        let cure = cause.remedy(call);
        Self {
            reason,
            cause,
            cure,
        }
    }
}

/// The kernel's answer in one line: the verifier's last words rather than all of them.
fn hook_reason(error: &HookError) -> String {
    if let HookError::Kernel(ProgramError::LoadError {
        io_error,
        verifier_log,
    }) = error
    {
        let log = verifier_log.to_string();
        let last = last_words(&log);
        return if last.is_empty() {
            format!("{io_error}")
        } else {
            format!("{io_error}: {last}")
        };
    }
    chain(error)
}

/// `unknown func bpf_probe_read_kernel#113`, and since 6.12 `program of this type cannot use helper …`.
fn is_helper_withheld(log: &str) -> bool {
    let last = last_words(log);
    let refuses = ["unknown func", "cannot use helper"].map(|words| last.contains(words));
    refuses.contains(&true) && last.contains("bpf_probe_read_kernel")
}

/// The last line of the verifier's log that is no statistics (`print_verification_stats`,
/// kernel/bpf/verifier.c).
fn last_words(log: &str) -> &str {
    const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    let is_statistics = |line: &str| STATISTICS.iter().any(|start| line.starts_with(start));
    let said = |line: &&str| !line.is_empty() && !is_statistics(line);
    log.lines().map(str::trim).rfind(said).unwrap_or_default()
}

/// Which call the kernel refused, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub call: Call,
    /// `None` if it was not the kernel that refused.
    pub errno: Option<i32>,
    /// Whether the verifier knows no helper that reads kernel memory.
    pub helper_withheld: bool,
}

/// The innermost error of the kernel's. What is not known to be another call is bpf(2).
fn refusal(error: &(dyn Error + 'static)) -> Refusal {
    let of = |call, io: &io::Error| Refusal {
        call,
        errno: io.raw_os_error(),
        helper_withheld: false,
    };
    if let Some(SyscallError { call, io_error }) = error.downcast_ref() {
        let is_perf = call.starts_with("perf_event_");
        let call = if is_perf {
            Call::PerfEventOpen
        } else {
            Call::Bpf
        };
        return of(call, io_error);
    }
    if let Some(ProgramError::LoadError {
        io_error,
        verifier_log,
    }) = error.downcast_ref()
    {
        return Refusal {
            helper_withheld: is_helper_withheld(&verifier_log.to_string()),
            ..of(Call::Bpf, io_error)
        };
    }
    if let Some(TracePointError::FileError { io_error, .. }) = error.downcast_ref() {
        return of(Call::Tracefs, io_error);
    }
    if let Some(HookError::Kernel(inner)) = error.downcast_ref() {
        return refusal(inner);
    }
    // A transparent error hides the one that it wraps from `source`.
    match error.downcast_ref() {
        Some(ProgramError::SyscallError(inner)) => return refusal(inner),
        Some(ProgramError::TracePointError(inner)) => return refusal(inner),
        Some(ProgramError::MapError(inner)) => return refusal(inner),
        Some(ProgramError::IOError(inner)) => return refusal(inner),
        Some(_) | None => {}
    }
    if let Some(MapError::CreateError { io_error, .. }) = error.downcast_ref() {
        return of(Call::Bpf, io_error);
    }
    if let Some(MapError::SyscallError(inner)) = error.downcast_ref() {
        return refusal(inner);
    }
    if let Some(io) = error.downcast_ref::<io::Error>() {
        return of(Call::Bpf, io);
    }
    error.source().map_or(
        Refusal {
            call: Call::Bpf,
            errno: None,
            helper_withheld: false,
        },
        refusal,
    )
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
            "attach enumerate: the object file has no such program; needs Linux 5.10 or later with BPF and BTF"
        );
        let ring = KernelError::Ring(io::Error::from_raw_os_error(9));
        assert_eq!(
            ring.to_string(),
            "wait for kernel records: Bad file descriptor (os error 9)"
        );
        assert_eq!(ring.cure(), None);
    }

    #[test]
    fn a_kernel_that_is_too_old_is_told_so_and_not_asked_to_be_reported() {
        let error = |release: &str| {
            let error = KernelError::Layout {
                path: "/sys/kernel/btf/vmlinux".into(),
                source: BtfError::BitField {
                    structure: "sock".to_owned(),
                    member: "sk_protocol".to_owned(),
                },
                release: release.to_owned(),
            };
            error.to_string()
        };
        assert_eq!(
            error("4.18.0-553.el8_10.x86_64"),
            "resolve kernel structures in /sys/kernel/btf/vmlinux: `sock.sk_protocol` is a bit field; \
             needs Linux 5.10 or later, and this is 4.18.0-553.el8_10.x86_64"
        );
        assert!(
            error("8.0.1").ends_with("this kernel (8.0.1) is not supported yet, please report it")
        );
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
    fn the_verifier_s_last_words_are_no_statistics() {
        let log = "0: R1=ctx() R10=fp0\n; read (src/hooks.rs:12)\n3: (85) call \
                   bpf_probe_read_kernel#113\nunknown func bpf_probe_read_kernel#113\n\
                   verification time 72 usec\nstack depth 16+0\nprocessed 4 insns (limit 1000000) \
                   max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n\n";
        assert_eq!(last_words(log), "unknown func bpf_probe_read_kernel#113");
        assert!(is_helper_withheld(log));
        let newer =
            "program of this type cannot use helper bpf_probe_read_kernel#113\nprocessed 4 insns";
        assert!(is_helper_withheld(newer));
        // It reads kernel memory, and is refused for something else.
        assert!(!is_helper_withheld(
            "3: (85) call bpf_probe_read_kernel#113\nR1 type=scalar expected=fp"
        ));
        assert_eq!(last_words("processed 4 insns\n"), "");
    }

    #[test]
    fn the_refused_call_is_told_from_the_error_s_type() {
        let denied = || io::Error::from_raw_os_error(libc::EACCES);
        let syscall = |call| {
            ProgramError::SyscallError(SyscallError {
                call,
                io_error: denied(),
            })
        };
        let file = TracePointError::FileError {
            filename: "/sys/kernel/tracing/events/syscalls/sys_enter_connect/id".into(),
            io_error: denied(),
        };
        let create = MapError::CreateError {
            name: "RING".to_owned(),
            io_error: denied(),
        };
        for (error, call) in [
            (syscall("bpf_link_create"), Call::Bpf),
            (syscall("perf_event_open_trace_point"), Call::PerfEventOpen),
            (ProgramError::TracePointError(file), Call::Tracefs),
            (ProgramError::MapError(create), Call::Bpf),
        ] {
            let told = refusal(&HookError::Kernel(error));
            assert_eq!((told.call, told.errno), (call, Some(libc::EACCES)));
        }
        let load = EbpfError::MapError(MapError::CreateError {
            name: "RING".to_owned(),
            io_error: denied(),
        });
        assert_eq!(refusal(&load).errno, Some(libc::EACCES));
    }
}
