//! How far the Collector has been told of each pod: whether its series have begun, and whether they are
//! complete.

use std::collections::{HashMap, HashSet};

use super::export_view::LinkView;
use crate::snapshot::{Departed, SeriesName, Snapshot};

/// How far the Collector has been told.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The pods whose zeros have arrived.
    begun: HashSet<SeriesName>,
    /// The pods whose last counts have arrived, after so many lives: they are not shown any more.
    complete: HashMap<SeriesName, u64>,
}

impl Progress {
    /// What an export of `snapshot` shows: every link, and the pods that have departed since they were
    /// shown last.
    pub(super) fn views(&self, snapshot: &Snapshot) -> Vec<LinkView> {
        let has_begun = |name| self.begun.contains(name);
        let links = snapshot.links.iter();
        let links = links.map(|link| LinkView::of_link(link, has_begun(&link.name)));
        let departed = snapshot.departed.iter();
        let departed = departed.filter(|departed| !self.is_complete(departed));
        let departed = departed.map(|it| LinkView::of_departed(it, has_begun(&it.name)));
        links.chain(departed).collect()
    }

    /// Whether there is nothing to say about any pod.
    pub(super) fn is_idle(&self, snapshot: &Snapshot) -> bool {
        let mut departed = snapshot.departed.iter();
        snapshot.links.is_empty()
            && snapshot.unobserved.is_empty()
            && departed.all(|departed| self.is_complete(departed))
    }

    /// Notes that a request that showed `links` has arrived.
    pub(super) fn arrived(&mut self, links: &[LinkView]) {
        for link in links {
            if link.is_withheld {
                self.begun.insert(link.name.clone());
            } else if link.has_departed {
                self.complete.insert(link.name.clone(), link.total.lives);
            }
        }
    }

    /// Forgets the pods that are not in `snapshot`: they will not come back.
    pub(super) fn retain(&mut self, snapshot: &Snapshot) {
        let links = snapshot.links.iter().map(|link| &link.name);
        let departed = snapshot.departed.iter().map(|departed| &departed.name);
        let known: HashSet<_> = links.chain(departed).collect();
        self.begun.retain(|name| known.contains(name));
        self.complete.retain(|name, _| known.contains(name));
    }

    fn is_complete(&self, departed: &Departed) -> bool {
        self.complete.get(&departed.name) == Some(&departed.total.lives)
    }
}
