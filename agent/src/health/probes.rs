//! The probes for liveness and readiness; the caller defines them.

use std::fmt;

/// The result of a probe: all is well, or one line about what is wrong.
pub(super) type ProbeResult = Result<(), String>;

/// The probes. They run on every request and must not block.
pub(crate) struct Probes {
    /// Whether the agent's loop runs and metrics are collected. If not, the kubelet should restart
    /// it.
    pub live: Box<dyn Fn() -> ProbeResult + Send + Sync>,
    /// Whether the hooks are attached and the first sync is done.
    pub ready: Box<dyn Fn() -> ProbeResult + Send + Sync>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}
