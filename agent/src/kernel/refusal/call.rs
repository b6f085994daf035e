//! What the kernel refuses.

use std::fmt;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// bpf(2): maps, programs, links.
    Bpf,
    /// perf_event_open(2), which a tracepoint takes.
    PerfEventOpen,
    /// mount(2) of tracefs.
    Mount,
    /// A file of tracefs.
    Tracefs,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bpf => "bpf()",
            Self::PerfEventOpen => "perf_event_open()",
            Self::Mount => "the mount of tracefs",
            Self::Tracefs => "reading tracefs",
        })
    }
}
