//! Which links and pods have changed since the memory was updated, and when to update it.

use std::{collections::BTreeSet, time::Duration};

use super::registry::LinkId;
use crate::{snapshot::SeriesName, time::Timestamp};

/// The links and pods for which the memory may be out of date.
#[derive(Default)]
pub(super) struct Unsaved {
    /// Links that were called since.
    links: BTreeSet<LinkId>,
    /// Pods with a link that has ended since.
    pub(super) pods: BTreeSet<SeriesName>,
    /// Whether one of these links reported something, and did not only pass its checks.
    is_urgent: bool,
    /// When the memory was last updated.
    saved: Option<Timestamp>,
}

impl Unsaved {
    /// A link was called. `is_urgent` says whether it reported something or counted an error.
    pub(super) fn called(&mut self, link: LinkId, is_urgent: bool) {
        self.links.insert(link);
        self.is_urgent |= is_urgent;
    }

    /// Marks all these links.
    pub(super) fn all(&mut self, links: impl IntoIterator<Item = LinkId>) {
        self.links.extend(links);
    }

    /// When to update the memory, if anything has changed: at once, but not again and again in a
    /// storm. A snapshot updates it first, whatever this returns.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if self.links.is_empty() && self.pods.is_empty() {
            return None;
        }
        let is_urgent = self.is_urgent || !self.pods.is_empty();
        let gap = if is_urgent { GAP } else { REST_GAP };
        Some(self.saved.map_or_else(Timestamp::default, |at| at + gap))
    }

    /// Takes the links and pods to write at `now`.
    pub(super) fn take(&mut self, now: Timestamp) -> (BTreeSet<LinkId>, BTreeSet<SeriesName>) {
        self.saved = Some(now);
        self.is_urgent = false;
        (
            std::mem::take(&mut self.links),
            std::mem::take(&mut self.pods),
        )
    }
}

/// The file is written whole, so at most as often as exports are made. If the agent dies, it loses
/// a fifth of a second of counts, on top of the second or more until its successor watches.
const GAP: Duration = Duration::from_millis(200);
/// The gap while nothing happens: 200 links pass 40 liveness checks a second. If the agent dies, it
/// loses some checks that passed; the next check says as much.
const REST_GAP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_written_at_once_and_a_storm_of_changes_together() {
        let mut unsaved = Unsaved::default();
        let start = Timestamp::default() + Duration::from_secs(9);
        assert_eq!(unsaved.due(), None);
        let mut writes = 0;
        // For 1 s, one of 200 links changes every millisecond.
        for n in 0..1000 {
            let now = start + Duration::from_millis(n);
            unsaved.called(LinkId(n % 200), true);
            if unsaved.due().is_some_and(|due| due <= now) {
                let (links, _) = unsaved.take(now);
                let since = if n == 0 { 1 } else { 200 };
                assert_eq!(links.len(), since, "at {n} ms");
                writes += 1;
                assert_eq!(unsaved.due(), None);
            }
        }
        assert_eq!(writes, 5);
        // The last changes are not forgotten.
        assert_eq!(unsaved.due(), Some(start + Duration::from_millis(1000)));
        unsaved.take(start + Duration::from_millis(1000));
        // After a pause, a change is written at once again.
        let later = start + Duration::from_secs(2);
        unsaved.pods.insert(SeriesName::of_activator("a"));
        assert!(unsaved.due().is_some_and(|due| due <= later));
    }

    #[test]
    fn checks_that_pass_are_written_together_and_what_is_told_is_not_kept_waiting_by_them() {
        let mut unsaved = Unsaved::default();
        let start = Timestamp::default() + Duration::from_secs(9);
        unsaved.called(LinkId(1), true);
        unsaved.take(start);
        unsaved.called(LinkId(1), false);
        assert_eq!(unsaved.due(), Some(start + REST_GAP));
        unsaved.called(LinkId(2), true);
        unsaved.called(LinkId(1), false);
        assert_eq!(unsaved.due(), Some(start + GAP));
    }
}
