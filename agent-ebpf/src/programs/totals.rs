//! The counts of one source.
//!
//! Userspace tracks a source by creating its entry in [`TOTALS`]. From then on each end is reported
//! by exactly one of: a record in the ring, or the source's missed ends. Before, it is reported by the
//! missed ends kept in [`UNTRACKED_TOTALS`].

use aya_ebpf::bindings::BPF_NOEXIST;
use statlink_ebpf::{Connection, LossReason, Source, Totals, decide::is_lookup_due};

use crate::{
    atomic::{add_u32, add_u64},
    maps::{TOTALS, UNTRACKED_TOTALS, count_loss},
    records::{Ended, RecordFields, report},
};

/// In `.rodata`: too large for a program's stack of 512 bytes.
static ZERO_TOTALS: Totals = Totals::ZERO;

/// A source's totals, and who gets to know what happens to it.
pub(crate) struct SourceTotals {
    totals: *mut Totals,
    /// Whether userspace tracks the source.
    pub(crate) tracked: bool,
    /// Whether userspace tracks, of an untracked source, the whole network namespace.
    namespace_tracked: bool,
}

impl SourceTotals {
    /// The totals of `source`, if userspace tracks it.
    #[inline(always)]
    pub(crate) fn tracked(source: Source) -> Option<Self> {
        let totals = TOTALS.get_ptr_mut(source)?;
        Some(Self {
            totals,
            tracked: true,
            namespace_tracked: false,
        })
    }

    /// The totals of `source`, created among the untracked if there are none.
    #[inline(always)]
    pub(crate) fn of(source: Source) -> Option<Self> {
        if let Some(tracked) = Self::tracked(source) {
            return Some(tracked);
        }
        let namespace_tracked = TOTALS
            .get_ptr(Source::whole_namespace(source.netns))
            .is_some();
        let untracked = |totals| Self {
            totals,
            tracked: false,
            namespace_tracked,
        };
        if let Some(totals) = UNTRACKED_TOTALS.get_ptr_mut(source) {
            return Some(untracked(totals));
        }
        // Another CPU may have been first: its entry serves as well.
        let zero = &ZERO_TOTALS;
        let _ = UNTRACKED_TOTALS.insert(source, zero, u64::from(BPF_NOEXIST));
        let created = UNTRACKED_TOTALS.get_ptr_mut(source);
        if created.is_none() {
            count_loss(LossReason::TotalsFull);
        }
        created.map(untracked)
    }

    /// Whether userspace gets records of what happens.
    #[inline(always)]
    pub(crate) fn is_recorded(&self) -> bool {
        self.tracked || self.namespace_tracked
    }

    #[inline(always)]
    pub(crate) fn count_attempt(&self) {
        // SAFETY: `totals` is a live map value.
        let attempts = unsafe { &raw mut (*self.totals).attempts };
        // SAFETY: as above.
        unsafe { add_u64(attempts, 1) }
    }

    #[inline(always)]
    pub(crate) fn count_retransmits(&self, more: u32) {
        // SAFETY: `totals` is a live map value.
        let retransmits = unsafe { &raw mut (*self.totals).retransmits };
        // SAFETY: as above.
        unsafe { add_u64(retransmits, u64::from(more)) }
    }

    /// Whether a name lookup at `now` is due for a record; if so, it counts as recorded. Two lookups
    /// at the same moment may both be due.
    #[inline(always)]
    pub(crate) fn take_lookup(&self, now: u64) -> bool {
        // SAFETY: `totals` is a live map value.
        let last = unsafe { &raw mut (*self.totals).looked_up_ns };
        // SAFETY: as above; volatile, because others write it.
        let due = is_lookup_due(unsafe { core::ptr::read_volatile(last) }, now);
        if due {
            // SAFETY: as above.
            unsafe { core::ptr::write_volatile(last, now) };
        }
        due
    }

    /// Counts one end and reports it: by the ring if the source is tracked and there is room, else by
    /// the missed ends. An untracked source's end in a tracked namespace goes to the ring, and counts
    /// as missed as well: the record may explain a link, but nobody counts by it.
    #[inline(always)]
    pub(crate) fn report_end(&self, sock: u64, connection: &Connection, ended: &Ended) {
        let cell = Totals::cell(ended.phase, ended.end);
        // SAFETY: `totals` is a live map value.
        let all = unsafe { &raw mut (*self.totals).ended };
        // SAFETY: as above.
        unsafe { add_cell(all.cast(), cell) };
        let fields = RecordFields::ended(ended);
        let recorded = self.is_recorded() && report(sock, connection, &fields, self.tracked);
        if !(self.tracked && recorded) {
            // SAFETY: as above.
            let missed = unsafe { &raw mut (*self.totals).missed_ends };
            // SAFETY: as above.
            unsafe { add_cell(missed.cast(), cell) };
        }
    }
}

/// Adds one to a cell, atomically; the verifier wants to see that there is such a cell.
///
/// # Safety
///
/// `cells` must point to [`Totals::CELLS`] counts of a live map value.
#[inline(always)]
unsafe fn add_cell(cells: *mut u32, cell: usize) {
    if cell < Totals::CELLS {
        // SAFETY: by contract, and within the array.
        unsafe { add_u32(cells.wrapping_add(cell)) };
    }
}
