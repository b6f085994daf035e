//! What the kernel half could not tell: links are told so, and what can be found again is looked for.

use std::time::Duration;

use super::{
    super::{
        owed::Depth,
        registry::{Entry, LinkId},
    },
    EventLoop,
};
use crate::{clock, kernel::KernelError, time::Timestamp};

impl EventLoop {
    /// Tells links whose clients have more connections than the kernel half can follow, and looks
    /// whether there is room again. `refused` says whether any connection was refused since.
    pub(super) fn check_room(&mut self, refused: bool, now: Timestamp) -> Result<(), KernelError> {
        let concerns =
            |entry: &Entry| refused || entry.completeness.next().is_some_and(|look| look <= now);
        for id in self.registry.ids() {
            let Some(entry) = self.registry.get_mut(id).filter(|entry| concerns(entry)) else {
                continue;
            };
            let totals = self.kernel.source_totals(entry.source)?;
            if entry.completeness.is_pass_due(totals.held, now) {
                entry.owed.mark(Depth::OpenFiles);
            }
            if let Some(lost) = entry.completeness.refused(totals.refused, now) {
                self.handle(id, now, lost)?;
            }
        }
        Ok(())
    }

    /// Looks for events that hooks missed.
    pub(super) fn check_missed_events(&mut self) {
        self.missed_look = clock::now() + MISSED_LOOK;
        self.scan_at_once |= self
            .reconciler
            .check_missed_events(&self.kernel, &mut self.registry);
    }

    /// Gives a link, before it ends, the ends that no record told: no pass comes any more.
    pub(super) fn hand_last(&mut self, id: LinkId) -> Result<(), KernelError> {
        let Some(entry) = self.registry.get_mut(id) else {
            return Ok(());
        };
        let now = clock::now();
        let missed = self.kernel.source_totals(entry.source)?.missed;
        if !entry.owed.lacks(&missed) {
            return Ok(());
        }
        let Some(inventory) = self.kernel.last_inventory(entry.source, now)? else {
            return Ok(());
        };
        let input = entry.owed.input(&inventory);
        self.handle(id, now, input)
    }
}

/// How often to look for missed events where programs can be preempted: a connection whose begin was
/// missed is found within its start-up grace, and ten counts are read in 0.1 ms.
const MISSED_LOOK: Duration = Duration::from_secs(1);
