//! Of whom a successor may not know everything yet, and when it is to be told.

use std::{collections::BTreeSet, time::Duration};

use super::registry::LinkId;
use crate::{snapshot::SeriesName, time::Timestamp};

/// Of whom the memory may be behind.
#[derive(Default)]
pub(super) struct Unsaved {
    /// Links that were called.
    links: BTreeSet<LinkId>,
    /// Pods of which a link has ended.
    pub(super) pods: BTreeSet<SeriesName>,
    /// Whether one of these links told something since: not only that it goes on as it was.
    is_urgent: bool,
    /// When it was last brought up to date.
    saved: Option<Timestamp>,
}

impl Unsaved {
    /// A link was called; `is_urgent` says whether it told something, or counted an error.
    pub(super) fn called(&mut self, link: LinkId, is_urgent: bool) {
        self.links.insert(link);
        self.is_urgent |= is_urgent;
    }

    /// All these links are to be written.
    pub(super) fn all(&mut self, links: impl IntoIterator<Item = LinkId>) {
        self.links.extend(links);
    }

    /// When what has changed is to be written, if anything has: at once, but not again and again in a
    /// storm. What is to be shown is written before, whatever this says.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if self.links.is_empty() && self.pods.is_empty() {
            return None;
        }
        let is_urgent = self.is_urgent || !self.pods.is_empty();
        let gap = if is_urgent { GAP } else { REST_GAP };
        Some(self.saved.map_or_else(Timestamp::default, |at| at + gap))
    }

    /// Whose matters are to be written now, at `now`.
    pub(super) fn take(&mut self, now: Timestamp) -> (BTreeSet<LinkId>, BTreeSet<SeriesName>) {
        self.saved = Some(now);
        self.is_urgent = false;
        (
            std::mem::take(&mut self.links),
            std::mem::take(&mut self.pods),
        )
    }
}

/// The file is written whole: as often as exports are made at most. A death of the agent costs a fifth of
/// a second of counts, beside the second or more until its successor watches.
const GAP: Duration = Duration::from_millis(200);
/// The same while nothing happens: 200 links pass 40 liveness checks a second. A death of the agent costs
/// some of those that passed, of which the next one tells as much.
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
        // Each millisecond something happens to one of 200 links, for 1 s.
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
        // The last ones are not forgotten.
        assert_eq!(unsaved.due(), Some(start + Duration::from_millis(1000)));
        unsaved.take(start + Duration::from_millis(1000));
        // After a pause it is at once again.
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
