//! Giving up what is no longer needed.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// What the loop needs once the hooks are attached: to read maps and run programs on demand, and,
/// where it was given, to read the environment of activators that come later.
pub(crate) const RUNNING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// Gives up, for the calling thread and those it starts, every capability that is not in `kept`.
///
/// A capability is a thread's own (`capabilities(7)`); so each thread calls this. That it fails
/// costs nothing but the protection, and is told.
pub(crate) fn reduce_to(kept: CapabilitySet) {
    let reduced = capabilities(None).and_then(|held| {
        set_capabilities(
            None,
            CapabilitySets {
                effective: held.effective & kept,
                permitted: held.permitted & kept,
                inheritable: CapabilitySet::empty(),
            },
        )
    });
    if let Err(error) = reduced {
        tracing::warn!(%error, "Capabilities that are no longer needed could not be given up.");
    }
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
