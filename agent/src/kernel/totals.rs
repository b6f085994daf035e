//! What the kernel counted about one source.

use statlink_ebpf::{ENDS, PHASES};

/// Ends by phase and kind, as counted in the kernel.
pub type Ends = [[u32; ENDS]; PHASES];

/// What the kernel counted about one source, since before it was tracked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceTotals {
    /// connect() calls.
    pub attempts: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Ends by phase and kind.
    pub ended: Ends,
    /// Those of them without a record.
    pub missed: Ends,
    /// Connections that the kernel half does not know, because the source's quota was full.
    pub refused: u32,
    /// Open connections that it knows.
    pub held: u32,
}

impl SourceTotals {
    /// Merges each count of `other` into its own.
    pub(super) fn merge(
        &mut self,
        other: &Self,
        long: fn(u64, u64) -> u64,
        short: fn(u32, u32) -> u32,
    ) {
        self.attempts = long(self.attempts, other.attempts);
        self.retransmits = long(self.retransmits, other.retransmits);
        for (mine, others) in [
            (&mut self.ended, &other.ended),
            (&mut self.missed, &other.missed),
        ] {
            for (mine, other) in mine.iter_mut().flatten().zip(others.iter().flatten()) {
                *mine = short(*mine, *other);
            }
        }
    }
}
