//! Sources: which processes userspace tracks, and what the kernel counted about each.

use aya::maps::{HashMap, MapData};
use statlink_ebpf::{Source, Totals};

use super::{
    error::KernelError,
    loaded::Kernel,
    maps::{exists, failed, full, not_found},
    totals::SourceTotals,
};

impl Kernel {
    /// Tracks a source: from now on each of its ends has a record, or is counted as missed. Returns
    /// whether there was room for it.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to write the map, for another reason than lack of room.
    pub fn track(&mut self, source: Source) -> Result<bool, KernelError> {
        match self.totals.insert(source, Totals::default(), BPF_NOEXIST) {
            Ok(()) => {}
            Err(error) if exists(&error) => {}
            Err(error) if full(&error) => return Ok(false),
            Err(error) => return Err(failed("TOTALS")(error)),
        }
        self.before_tracked.entry(source).or_default();
        // Remembers what was counted before: from now on others may push it out of its map.
        self.source_totals(source)?;
        Ok(true)
    }

    /// Stops tracking a source, and forgets it.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to write a map.
    pub fn untrack(&mut self, source: Source) -> Result<(), KernelError> {
        for (name, totals) in [
            ("TOTALS", &mut self.totals),
            ("UNTRACKED_TOTALS", &mut self.untracked_totals),
        ] {
            match totals.remove(&source) {
                Ok(()) => {}
                Err(error) if not_found(&error) => {}
                Err(error) => return Err(failed(name)(error)),
            }
        }
        self.before_tracked.remove(&source);
        Ok(())
    }

    /// What the kernel counted about `source`, before it was tracked and since.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to read a map.
    pub fn source_totals(&mut self, source: Source) -> Result<SourceTotals, KernelError> {
        let mut sum = read("UNTRACKED_TOTALS", &self.untracked_totals, source)?;
        if let Some(before) = self.before_tracked.get_mut(&source) {
            before.merge(&sum, u64::max, u32::max);
            sum = *before;
        }
        let since = read("TOTALS", &self.totals, source)?;
        sum.merge(&since, u64::saturating_add, u32::saturating_add);
        Ok(sum)
    }
}

/// Nothing, if the map has no such source.
fn read(
    name: &'static str,
    totals: &HashMap<MapData, Source, Totals>,
    source: Source,
) -> Result<SourceTotals, KernelError> {
    match totals.get(&source, 0) {
        Ok(totals) => Ok(SourceTotals {
            attempts: totals.attempts,
            retransmits: totals.retransmits,
            ended: totals.ended,
            missed: totals.missed_ends,
        }),
        Err(error) if not_found(&error) => Ok(SourceTotals::default()),
        Err(error) => Err(failed(name)(error)),
    }
}

/// `include/uapi/linux/bpf.h`.
const BPF_NOEXIST: u64 = 1;
