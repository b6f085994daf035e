//! What one export shows: a snapshot, made ready for the callbacks of the instruments.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use opentelemetry::KeyValue;

use crate::{
    link::Counts,
    snapshot::{LinkSnapshot, Snapshot},
};

/// What one export shows.
#[derive(Debug, Default)]
pub(super) struct ExportView {
    /// One for each set of attributes, in no particular order.
    pub(super) links: Vec<LinkView>,
    /// Holds the agent's own figures, and the number of links.
    pub(super) snapshot: Arc<Snapshot>,
}

/// Where callbacks find the view of the export that runs. It does not change while they run, so the
/// figures of one export agree.
pub(super) type CurrentView = Arc<ArcSwap<ExportView>>;

/// What is shown of one link.
#[derive(Debug)]
pub(super) struct LinkView {
    /// `peer`, `k8s.namespace.name`, `k8s.pod.name`.
    pub(super) attributes: [KeyValue; 3],
    pub(super) reachable: Option<bool>,
    pub(super) rtt: Option<Duration>,
    pub(super) silence: Option<Duration>,
    pub(super) counts: Counts,
    pub(super) retransmits: u64,
}

impl ExportView {
    /// Counters of a link that is not in `exported` show 0, whatever they are: `increase()` ignores a
    /// series' first sample, so export 0 first.
    ///
    /// If several links have the same attributes, only the newest is shown. That is a pod whose
    /// container was restarted while its old process is not gone yet. Their sum would fall when the
    /// old one goes, and a fall counts as a reset: `increase()` would add the new one's errors twice.
    /// The newest link's zero is a plain reset.
    pub(super) fn new(snapshot: Arc<Snapshot>, exported: &HashSet<u64>) -> Self {
        let mut newest: BTreeMap<_, &LinkSnapshot> = BTreeMap::new();
        for link in &snapshot.links {
            let name = (&link.peer, &link.namespace, &link.pod);
            let shown = newest.entry(name).or_insert(link);
            if shown.id < link.id {
                *shown = link;
            }
        }
        let links = newest.into_values();
        let links = links.map(|link| LinkView::new(link, exported.contains(&link.id)));
        Self {
            links: links.collect(),
            snapshot: Arc::clone(&snapshot),
        }
    }
}

impl LinkView {
    fn new(link: &LinkSnapshot, exported: bool) -> Self {
        let attribute = |key, value: &str| KeyValue::new(key, Arc::<str>::from(value));
        Self {
            attributes: [
                attribute("peer", &link.peer),
                attribute("k8s.namespace.name", &link.namespace),
                attribute("k8s.pod.name", &link.pod),
            ],
            reachable: link.state.reachable(),
            rtt: link.rtt,
            silence: link.silence,
            counts: if exported {
                link.counts.clone()
            } else {
                Counts::default()
            },
            retransmits: if exported { link.retransmits } else { 0 },
        }
    }

    /// The link's attributes, and `more`.
    pub(super) fn with<const N: usize>(&self, more: [KeyValue; N]) -> Vec<KeyValue> {
        self.attributes.iter().cloned().chain(more).collect()
    }
}
