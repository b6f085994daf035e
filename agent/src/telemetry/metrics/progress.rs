//! How far each pod has been shown: whether its series have begun, and whether they are complete.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::export_view::LinkView;
use crate::{
    memory::{Ended, Memory, Receiver, Told},
    snapshot::{Departed, SeriesName, Snapshot},
    time::Timestamp,
};

/// How long to repeat a pod's zeros and last counts after they first arrived. Not at all, if an
/// arrival is known to have reached its receiver.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Repeats {
    /// Its zeros.
    pub(super) zeros: Duration,
    /// Its last counts, when it has departed.
    pub(super) last: Duration,
}

/// How far each pod has been shown.
#[derive(Debug, Default)]
pub(super) struct Progress {
    repeats: Repeats,
    /// When the zeros of each pod first arrived; `None` if that is long ago.
    begun: HashMap<SeriesName, Option<Timestamp>>,
    /// The pods whose last counts have arrived.
    ended: HashMap<SeriesName, Ended>,
    /// The memory for a successor, and the receiver that this progress is about.
    memory: Option<(Arc<Memory>, Receiver)>,
}

impl Progress {
    pub(super) fn new(repeats: Repeats) -> Self {
        Self {
            repeats,
            ..Self::default()
        }
    }

    /// Continues from `now` with what the agent before this one told `receiver`, and keeps the
    /// memory up to date.
    pub(super) fn go_on(&mut self, memory: Arc<Memory>, receiver: Receiver, now: Timestamp) {
        for told in memory.told(receiver) {
            // Last counts that were still repeated when that agent ended are repeated for the full
            // time again: nobody may have asked while no agent ran.
            let ended = told.ended.filter(|ended| self.is_over(*ended, now));
            self.ended
                .extend(ended.map(|ended| (told.name.clone(), ended)));
            // Its counts may have been shown, and zeros after them would make them count twice.
            self.begun.insert(told.name, None);
        }
        // To a new receiver, earlier counts of these pods would seem to happen at once, so they get
        // no zeros.
        let before = memory.join(receiver).into_iter();
        self.begun.extend(before.map(|name| (name, None)));
        self.memory = Some((memory, receiver));
    }

    /// What an export of `snapshot` at `now` shows: every link, and the departed pods whose last
    /// counts must still be shown.
    pub(super) fn views(&self, snapshot: &Snapshot, now: Timestamp) -> Vec<LinkView> {
        let has_begun = |name| self.has_begun(name, now);
        let links = snapshot.links.iter();
        let links = links.map(|link| LinkView::of_link(link, has_begun(&link.name)));
        let departed = snapshot.departed.iter();
        let departed = departed.filter(|departed| !self.is_complete(departed, now));
        let departed = departed.map(|it| LinkView::of_departed(it, has_begun(&it.name)));
        links.chain(departed).collect()
    }

    /// Whether there is nothing to say about any pod.
    pub(super) fn is_idle(&self, snapshot: &Snapshot, now: Timestamp) -> bool {
        let mut departed = snapshot.departed.iter();
        snapshot.links.is_empty()
            && snapshot.unobserved.is_empty()
            && departed.all(|departed| self.is_complete(departed, now))
    }

    /// Notes that a request that showed `links` has arrived at `now`.
    pub(super) fn arrived(&mut self, links: &[LinkView], now: Timestamp) {
        for link in links {
            if link.is_withheld {
                self.begun.entry(link.name.clone()).or_insert(Some(now));
            } else if link.has_departed {
                let lives = link.total.lives;
                let first = Ended { lives, at: now };
                let ended = self.ended.entry(link.name.clone()).or_insert(first);
                if ended.lives != lives {
                    *ended = first;
                }
            }
        }
        self.tell(links, now);
    }

    /// Tells the memory whose counts will be shown from now on, before they are. Counts follow
    /// zeros that have reached their receiver, or that are on this page, which is not sent yet.
    fn tell(&self, links: &[LinkView], now: Timestamp) {
        let Some((memory, receiver)) = &self.memory else {
            return;
        };
        let shown = links.iter().map(|link| &link.name);
        let shown = shown.filter(|name| self.has_begun(name, now));
        memory.tell(shown.map(|name| Told {
            to: *receiver,
            name: name.clone(),
            ended: self.ended.get(name).copied(),
        }));
    }

    /// Forgets the pods that are not in `snapshot`: they will not come back.
    pub(super) fn retain(&mut self, snapshot: &Snapshot) {
        let links = snapshot.links.iter().map(|link| &link.name);
        let departed = snapshot.departed.iter().map(|departed| &departed.name);
        let known: HashSet<_> = links.chain(departed).collect();
        // A pod that the agent before this one knew may not be found yet.
        let memory = self.memory.as_ref();
        let is_kept = |name: &SeriesName| {
            known.contains(name) || memory.is_some_and(|(memory, _)| memory.knows(name))
        };
        self.begun.retain(|name, _| is_kept(name));
        self.ended.retain(|name, _| is_kept(name));
    }

    fn has_begun(&self, name: &SeriesName, now: Timestamp) -> bool {
        let begun = self.begun.get(name);
        let is_over = |at| now.saturating_since(at) >= self.repeats.zeros;
        begun.is_some_and(|at| at.is_none_or(is_over))
    }

    fn is_complete(&self, departed: &Departed, now: Timestamp) -> bool {
        let ended = self.ended.get(&departed.name);
        ended.is_some_and(|ended| ended.lives == departed.total.lives && self.is_over(*ended, now))
    }

    /// Whether last counts have been shown for their full time.
    fn is_over(&self, ended: Ended, now: Timestamp) -> bool {
        now.saturating_since(ended.at) >= self.repeats.last
    }
}
