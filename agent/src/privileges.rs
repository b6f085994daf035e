//! Giving up what is no longer needed.

use rustix::{
    io,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
        set_capabilities, set_no_new_privs,
    },
};

/// What the loop needs once the hooks are attached: to read maps and run programs on demand, and,
/// where it was given, to read the environment of activators that come later: the file is its
/// owner's, so whoever runs as another user needs both of the last two.
const RUNNING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// What the loop keeps: [`RUNNING`], or, where CAP_SYS_ADMIN was given in the stead of the two that
/// it covers on every kernel, that too.
pub(crate) fn running() -> CapabilitySet {
    let own = CapabilitySet::BPF | CapabilitySet::PERFMON;
    match capabilities(None) {
        Ok(held) if !held.effective.contains(own) => RUNNING | CapabilitySet::SYS_ADMIN,
        Ok(_) | Err(_) => RUNNING,
    }
}

/// Gives up, for the calling thread and those it starts, every capability that is not in `kept`.
///
/// A capability is a thread's own (`capabilities(7)`); so each thread calls this. That it fails
/// costs nothing but the protection, and is told.
pub(crate) fn reduce_to(kept: CapabilitySet) {
    if let Err(error) = reduce(kept) {
        tracing::warn!(%error, "Capabilities that are no longer needed could not be given up.");
    }
}

fn reduce(kept: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    let held = capabilities(None)?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all() - kept {
            // One that this kernel does not know, nobody can get.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    // Ambient ones go with the inheritable.
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
    fn a_thread_keeps_what_it_names_and_no_other_loses_anything() {
        let before = capabilities(None).unwrap();
        let left = std::thread::spawn(|| {
            reduce_to(CapabilitySet::BPF);
            // What is gone stays gone.
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
