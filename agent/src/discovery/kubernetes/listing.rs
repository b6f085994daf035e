//! The known objects of one watch.

use std::collections::BTreeMap;

use kube::{Resource, runtime::watcher::Event};

/// What is kept of each object of one watch, by a key.
#[derive(Debug)]
pub(super) struct Listing<V> {
    known: BTreeMap<String, V>,
    /// A listing that is still arriving. It replaces `known` once it is complete.
    incoming: BTreeMap<String, V>,
    complete: bool,
}

impl<V> Listing<V> {
    /// Applies one event and returns what it removed. `extract` selects what is kept of an object.
    pub(super) fn apply<K: Resource>(
        &mut self,
        event: Event<K>,
        extract: impl Fn(&K) -> Option<(String, V)>,
    ) -> Vec<(String, V)> {
        match event {
            Event::Apply(object) => {
                self.known.extend(extract(&object));
                Vec::new()
            }
            Event::Delete(object) => extract(&object)
                .and_then(|(key, _)| self.known.remove_entry(&key))
                .into_iter()
                .collect(),
            Event::Init => {
                self.incoming.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.incoming.extend(extract(&object));
                Vec::new()
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.incoming);
                let before = std::mem::replace(&mut self.known, listed);
                self.complete = true;
                before
                    .into_iter()
                    .filter(|(key, _)| !self.known.contains_key(key))
                    .collect()
            }
        }
    }

    /// Whether all objects were listed once.
    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// The objects that are known now.
    pub(super) const fn known(&self) -> &BTreeMap<String, V> {
        &self.known
    }
}

impl<V> Default for Listing<V> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            incoming: BTreeMap::new(),
            complete: false,
        }
    }
}
