//! A snapshot made ready for one export.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use opentelemetry::KeyValue;

use crate::{
    link::Counts,
    snapshot::{LinkSnapshot, Snapshot},
};

/// What one export shows.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// One for each attribute set, in no particular order.
    pub(super) series: Vec<Series>,
    /// Where the agent's own figures are, and the number of links.
    pub(super) snapshot: Arc<Snapshot>,
}

/// What is shown of one link.
#[derive(Debug)]
pub(super) struct Series {
    /// `peer`, `k8s.namespace.name`, `k8s.pod.name`.
    pub(super) attributes: [KeyValue; 3],
    pub(super) reachable: Option<bool>,
    pub(super) rtt: Option<Duration>,
    pub(super) silence: Option<Duration>,
    pub(super) counts: Counts,
    pub(super) retransmits: u64,
}

impl View {
    /// Freezes `snapshot`. The counters of a link that is not in `exported` show 0 whatever they
    /// are, so that the first sample a backend gets of a series is its zero: `increase()` over a
    /// series that is born with 3 says 0, and over one born with 0 says 3.
    ///
    /// Of links with one attribute set only the newest is shown: that is a pod whose container was
    /// restarted, its old process not yet gone. Their sum would fall once the old one goes, and
    /// count the new one's errors twice; the newest's zero is a plain reset.
    pub(crate) fn new(snapshot: Arc<Snapshot>, exported: &HashSet<u64>) -> Self {
        let mut newest: BTreeMap<_, &LinkSnapshot> = BTreeMap::new();
        for link in &snapshot.links {
            let name = (&link.peer, &link.namespace, &link.pod);
            let shown = newest.entry(name).or_insert(link);
            if shown.id < link.id {
                *shown = link;
            }
        }
        let series = newest.into_values();
        let series = series.map(|link| Series::new(link, exported.contains(&link.id)));
        Self {
            series: series.collect(),
            snapshot: Arc::clone(&snapshot),
        }
    }
}

impl Series {
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

    /// The attributes of every data point, and `more`.
    pub(super) fn with<const N: usize>(&self, more: [KeyValue; N]) -> Vec<KeyValue> {
        self.attributes.iter().cloned().chain(more).collect()
    }
}
