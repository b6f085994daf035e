//! Sources and their totals.

use super::{ENDS, End, PHASES, Phase, Room};

/// The owner of totals: one process in one network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Source {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
}

impl Source {
    /// Every process in `netns`; no process has the id 0.
    ///
    /// When userspace tracks this source, it gets the records of the namespace's *neighbours*: the
    /// processes in it that are no clients. Nothing is counted about them.
    #[inline(always)]
    pub const fn whole_namespace(netns: u32) -> Self {
        Self { netns, tgid: 0 }
    }
}

/// How userspace treats a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Standing {
    /// A process of a watched name that userspace does not know yet: its activity is counted.
    Candidate = 0,
    /// Userspace gets its records.
    Tracked = 1,
    /// No longer tracked; the entry stays while the process may hold something.
    Retired = 2,
}

/// Everything that ever happened to one source on the watched port.
///
/// Counts live here, in the kernel; records only carry detail. See
/// [`missed_ends`](Self::missed_ends) for how the two are reconciled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Totals {
    /// Its places in the shared maps.
    pub room: Room,
    /// connect() calls.
    pub attempts: u64,
    /// Retransmitted segments, SYNs included.
    pub retransmits: u64,
    /// When a name lookup was last recorded, nanoseconds; 0 if never.
    pub looked_up_ns: u64,
    /// The control group whose quota a candidate takes; 0 for none.
    pub cgroup: u64,
    /// A [`Standing`].
    pub standing: u32,
    /// Connections that were not kept because the quota was full; nobody knows their ends.
    pub refused: u32,
    /// Ends by [`Phase`] and [`End`].
    pub ended: [[u32; ENDS]; PHASES],
    /// The `ended` that no record reported: the ring was full, or the source was untracked.
    pub missed_ends: [[u32; ENDS]; PHASES],
}

impl Totals {
    /// Before anything has happened.
    pub const ZERO: Self = Self {
        room: Room::ZERO,
        attempts: 0,
        retransmits: 0,
        looked_up_ns: 0,
        cgroup: 0,
        standing: Standing::Candidate as u32,
        refused: 0,
        ended: [[0; ENDS]; PHASES],
        missed_ends: [[0; ENDS]; PHASES],
    };

    /// The index of one kind of end in `ended` and `missed_ends`, each taken as one array.
    #[inline(always)]
    pub const fn cell(phase: Phase, end: End) -> usize {
        phase as usize * ENDS + end as usize
    }

    /// The number of cells.
    pub const CELLS: usize = PHASES * ENDS;
}

const _: () = {
    assert!(size_of::<Source>() == 8);
    assert!(size_of::<Totals>() == (56 + 8 * Totals::CELLS).next_multiple_of(8));
    assert!(core::mem::offset_of!(Totals, room) == 0);
    assert!(core::mem::offset_of!(Totals, missed_ends) == 56 + 4 * Totals::CELLS);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_and_end_has_a_cell_of_its_own_where_userspace_looks_for_it() {
        for (row, phase) in Phase::ALL.into_iter().enumerate() {
            for (column, end) in End::ALL.into_iter().enumerate() {
                let mut ends = [[0_u32; ENDS]; PHASES];
                ends.as_flattened_mut()[Totals::cell(phase, end)] += 1;
                assert_eq!(ends[row][column], 1, "{phase:?} {end:?}");
            }
        }
    }
}
