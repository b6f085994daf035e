//! Dropping the capabilities that are no longer needed.
//!
//! Loading and attaching the kernel half needs more capabilities than running it. Once it is
//! attached, the loop's thread keeps those of [`running`], and every other thread keeps none
//! ([`give_up`]).

mod filter;

use rustix::{
    io,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
        set_capabilities, set_no_new_privs,
    },
};

/// Without these the kernel refuses to read maps and to run programs on demand
/// (`bpf_capable()`, `perfmon_capable()`).
const BPF: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);

/// Capabilities to read the environment of an activator that starts later: ptrace access, and
/// access to another user's file, because the file belongs to the activator's user.
const ENVIRONMENT: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);

/// The capabilities that the loop keeps once the hooks are attached, if it has them.
///
/// CAP_SYS_ADMIN implies CAP_BPF and CAP_PERFMON in every kernel (`include/linux/capability.h`). It
/// is kept only if one of the two is missing: older container runtimes do not know their names, so
/// with `privileged: true` or an explicit `SYS_ADMIN` nothing else allows reading maps. If both are
/// held, CAP_SYS_ADMIN only served to mount tracefs, and is dropped.
pub(crate) fn running() -> CapabilitySet {
    // The system call fails only for invalid arguments. If it did, holding nothing more than the
    // usual set is the safe answer.
    let held = capabilities(None).map_or(BPF, |sets| sets.effective);
    needed(held)
}

fn needed(held: CapabilitySet) -> CapabilitySet {
    if held.contains(BPF) {
        BPF | ENVIRONMENT
    } else {
        BPF | ENVIRONMENT | CapabilitySet::SYS_ADMIN
    }
}

/// Drops every capability that is not in `kept`, for the calling thread and the threads it starts.
///
/// Each thread has capabilities of its own (`capabilities(7)`), so each thread has to call this. If
/// it fails the agent works as before, less well protected; that is logged.
pub(crate) fn reduce_to(kept: CapabilitySet) {
    if let Err(error) = reduce(kept) {
        tracing::warn!(%error, "Capabilities that are no longer needed could not be dropped.");
    }
}

/// For every thread except the loop's: drops every capability, and refuses it the system calls that
/// it never needs. The loop's thread has no such filter: it reads maps and runs programs by bpf().
pub(crate) fn give_up() {
    reduce_to(CapabilitySet::empty());
    if let Err(error) = filter::install(filter::NEVER_NEEDED) {
        // Not every kernel and runtime supports filters; the capabilities are dropped anyway.
        tracing::debug!(%error, "System calls of a thread could not be filtered.");
    }
}

/// Runs `work` on a new thread that cannot open files, and returns its result; `None` if it panics.
/// If threads cannot be filtered, it can open files.
pub(crate) fn without_files<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    let filtered = || {
        let allowed = set_no_new_privs(true).map_err(std::io::Error::from);
        if let Err(error) = allowed.and_then(|()| filter::install(filter::OPEN)) {
            tracing::debug!(%error, "System calls of a thread could not be filtered.");
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(filtered).join().ok())
}

fn reduce(kept: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    let held = capabilities(None)?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all() - kept {
            // It fails for a capability that this kernel does not know, which nobody can gain.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    // The kernel clears the ambient set with the inheritable one.
    set_capabilities(
        None,
        CapabilitySets {
            effective: held.effective & kept,
            permitted: held.permitted & kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_admin_is_kept_only_where_it_stands_in_for_another() {
        let keeps_sys_admin = |held| needed(held).contains(CapabilitySet::SYS_ADMIN);
        assert!(!keeps_sys_admin(CapabilitySet::all()));
        assert!(!keeps_sys_admin(BPF));
        assert!(keeps_sys_admin(CapabilitySet::SYS_ADMIN));
        let half = CapabilitySet::BPF | CapabilitySet::SYS_ADMIN;
        assert!(keeps_sys_admin(half));
    }

    #[test]
    fn work_without_files_opens_none_and_others_do() {
        let open = || std::fs::read("/proc/self/stat").is_ok();
        assert_eq!(without_files(open), Some(false));
        assert!(open());
    }

    #[test]
    fn a_thread_keeps_what_it_names_and_other_threads_lose_nothing() {
        let before = capabilities(None).unwrap();
        // Without these there is nothing to drop.
        assert!(
            before.permitted.contains(CapabilitySet::BPF),
            "this test needs CAP_BPF: run it as root"
        );
        let left = std::thread::spawn(|| {
            reduce_to(CapabilitySet::BPF);
            // Dropped capabilities cannot be regained.
            reduce_to(CapabilitySet::all());
            std::thread::spawn(|| capabilities(None).unwrap())
                .join()
                .unwrap()
        })
        .join()
        .unwrap();
        assert_eq!(left.permitted, before.permitted & CapabilitySet::BPF);
        assert_eq!(left.effective, before.effective & CapabilitySet::BPF);
        assert_eq!(capabilities(None).unwrap(), before);
    }
}
