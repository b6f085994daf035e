//! How far each pod has been shown: whether its series have begun, and whether they are complete.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::export_view::LinkView;
use crate::{
    snapshot::{Departed, SeriesName, Snapshot},
    time::Timestamp,
};

/// For how long what begins and what ends a pod's series is shown again after it has first arrived. Not at
/// all, where it is known that it has arrived at whom it is for.
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
    /// When the zeros of each pod have first arrived.
    begun: HashMap<SeriesName, Timestamp>,
    /// The pods whose last counts have arrived: after how many lives, and when first.
    ended: HashMap<SeriesName, (u64, Timestamp)>,
}

impl Progress {
    pub(super) fn new(repeats: Repeats) -> Self {
        Self {
            repeats,
            ..Self::default()
        }
    }

    /// What an export of `snapshot` at `now` shows: every link, and the pods that have departed and whose
    /// last counts are still to be shown.
    pub(super) fn views(&self, snapshot: &Snapshot, now: Timestamp) -> Vec<LinkView> {
        let has_begun = |name| {
            let begun = self.begun.get(name);
            begun.is_some_and(|at| now.saturating_since(*at) >= self.repeats.zeros)
        };
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
                self.begun.entry(link.name.clone()).or_insert(now);
            } else if link.has_departed {
                let lives = link.total.lives;
                let ended = self.ended.entry(link.name.clone());
                let ended = ended.or_insert((lives, now));
                if ended.0 != lives {
                    *ended = (lives, now);
                }
            }
        }
    }

    /// Forgets the pods that are not in `snapshot`: they will not come back.
    pub(super) fn retain(&mut self, snapshot: &Snapshot) {
        let links = snapshot.links.iter().map(|link| &link.name);
        let departed = snapshot.departed.iter().map(|departed| &departed.name);
        let known: HashSet<_> = links.chain(departed).collect();
        self.begun.retain(|name, _| known.contains(name));
        self.ended.retain(|name, _| known.contains(name));
    }

    fn is_complete(&self, departed: &Departed, now: Timestamp) -> bool {
        let ended = self.ended.get(&departed.name);
        ended.is_some_and(|(lives, at)| {
            *lives == departed.total.lives && now.saturating_since(*at) >= self.repeats.last
        })
    }
}
