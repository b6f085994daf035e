//! How far the Collector has been told of each pod: whether its series have begun, and whether they are
//! complete.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::export_view::LinkView;
use crate::{
    memory::{Memory, Told},
    snapshot::{Departed, SeriesName, Snapshot},
};

/// How far the Collector has been told.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The pods whose zeros have arrived.
    begun: HashSet<SeriesName>,
    /// The pods whose last counts have arrived, after so many lives: they are not shown any more.
    complete: HashMap<SeriesName, u64>,
    /// Where a successor of the agent finds it.
    memory: Option<Arc<Memory>>,
}

impl Progress {
    /// As far as the agent before this one had told it.
    pub(super) fn from_memory(memory: Option<Arc<Memory>>) -> Self {
        let told = memory.as_ref().map(|memory| memory.told());
        let told = told.unwrap_or_default();
        let complete = told
            .iter()
            .filter_map(|told| Some((told.name.clone(), told.complete?)));
        Self {
            complete: complete.collect(),
            begun: told.iter().map(|told| told.name.clone()).collect(),
            memory,
        }
    }

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
        // Before its counts are shown: a successor that showed zeros after them would have them
        // counted twice.
        if let Some(memory) = &self.memory {
            let news = links.iter();
            let news = news.filter(|link| link.is_withheld || link.has_departed);
            memory.tell(news.map(|link| Told {
                name: link.name.clone(),
                complete: self.complete.get(&link.name).copied(),
            }));
        }
    }

    /// Forgets the pods that are not in `snapshot`: they will not come back.
    pub(super) fn retain(&mut self, snapshot: &Snapshot) {
        let links = snapshot.links.iter().map(|link| &link.name);
        let departed = snapshot.departed.iter().map(|departed| &departed.name);
        let known: HashSet<_> = links.chain(departed).collect();
        // A pod of which the agent before this one knew may not be found yet.
        let memory = self.memory.as_ref();
        let is_kept = |name: &SeriesName| {
            let is_awaited = |memory: &Arc<Memory>| memory.series_began(name).is_some();
            known.contains(name) || memory.is_some_and(is_awaited)
        };
        self.begun.retain(is_kept);
        self.complete.retain(|name, _| is_kept(name));
    }

    fn is_complete(&self, departed: &Departed) -> bool {
        self.complete.get(&departed.name) == Some(&departed.total.lives)
    }
}
