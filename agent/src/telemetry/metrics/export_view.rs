//! What one request shows: a part of a snapshot, prepared for the instruments' callbacks.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use opentelemetry::KeyValue;

use crate::{
    link::{Cause, CheckKind},
    snapshot::{Departed, LinkSnapshot, PodCounts, SeriesName, Snapshot},
};

/// What one request shows.
#[derive(Debug, Default)]
pub(super) struct ExportView {
    /// One view for each set of attributes, in no particular order.
    pub(super) links: Vec<LinkView>,
    /// How much it shows of the agent's own figures.
    pub(super) of_agent: OfAgent,
    /// Contains the agent's own figures and the number of links.
    pub(super) snapshot: Arc<Snapshot>,
}

/// How much a request shows of the agent itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OfAgent {
    /// Nothing: another request of this export shows it.
    Nothing,
    /// That the agent lives, and what it lacks. A fleet has far more nodes without a link than with
    /// one, and the other figures are of no use there.
    Life,
    /// Everything.
    #[default]
    All,
}

/// Where callbacks find the view of the current request. It does not change while they run, so the
/// figures of one request agree.
pub(super) type CurrentView = Arc<ArcSwap<ExportView>>;

/// What is shown of one pod.
#[derive(Debug)]
pub(super) struct LinkView {
    pub(super) name: SeriesName,
    /// `peer`, `k8s.namespace.name`, `k8s.pod.name`.
    pub(super) attributes: [KeyValue; 3],
    pub(super) reachable: Option<bool>,
    pub(super) rtt: Option<Duration>,
    pub(super) silence: Option<Duration>,
    pub(super) total: PodCounts,
    /// Whether it shows zeros instead of the counts.
    pub(super) is_withheld: bool,
    /// Whether the withheld counts are due at once.
    pub(super) owes_counts: bool,
    /// Whether its pod has no process left.
    pub(super) has_departed: bool,
}

impl LinkView {
    /// A pod with a process. `has_begun` says whether its zeros have arrived: `increase()` ignores
    /// a series' first sample, so 0 is exported first, whatever the pod has counted.
    pub(super) fn of_link(link: &LinkSnapshot, has_begun: bool) -> Self {
        Self {
            reachable: link.state.reachable(),
            rtt: link.rtt,
            silence: link.silence,
            ..Self::counts_of(&link.name, &link.total, has_begun)
        }
    }

    /// A pod without a process: only its last counts.
    pub(super) fn of_departed(departed: &Departed, has_begun: bool) -> Self {
        Self {
            owes_counts: !has_begun,
            has_departed: true,
            ..Self::counts_of(&departed.name, &departed.total, has_begun)
        }
    }

    fn counts_of(name: &SeriesName, total: &PodCounts, has_begun: bool) -> Self {
        let attribute = |key, value: &str| KeyValue::new(key, Arc::<str>::from(value));
        Self {
            name: name.clone(),
            attributes: [
                attribute("peer", &name.peer),
                attribute("k8s.namespace.name", &name.namespace),
                attribute("k8s.pod.name", &name.pod),
            ],
            reachable: None,
            rtt: None,
            silence: None,
            total: if has_begun {
                total.clone()
            } else {
                PodCounts::default()
            },
            is_withheld: !has_begun,
            owes_counts: !has_begun && total.counts.total_checks() > 0,
            has_departed: false,
        }
    }

    /// The link's attributes, plus `more`.
    pub(super) fn with<const N: usize>(&self, more: [KeyValue; N]) -> Vec<KeyValue> {
        self.attributes.iter().cloned().chain(more).collect()
    }

    /// The maximum size of its points in OTLP.
    fn bytes(&self) -> usize {
        let SeriesName {
            peer,
            namespace,
            pod,
        } = &self.name;
        POINTS * (POINT_BYTES + peer.len() + namespace.len() + pod.len())
    }
}

/// Divides an export into requests, none of which is too large for a Collector. All points of one
/// pod are in one request, so that they agree. The first request has the agent's own figures; there
/// is always a first one.
pub(super) fn requests(
    links: Vec<LinkView>,
    of_agent: OfAgent,
    snapshot: &Arc<Snapshot>,
) -> Vec<ExportView> {
    let with = |of_agent| ExportView {
        links: Vec::new(),
        of_agent,
        snapshot: Arc::clone(snapshot),
    };
    let mut requests = Vec::new();
    let (mut request, mut bytes) = (with(of_agent), 0);
    for link in links {
        let more = link.bytes();
        let is_full = request.links.len() >= REQUEST_LINKS || bytes + more > REQUEST_BYTES;
        if is_full && !request.links.is_empty() {
            requests.push(std::mem::replace(&mut request, with(OfAgent::Nothing)));
            bytes = 0;
        }
        bytes += more;
        request.links.push(link);
    }
    requests.push(request);
    requests
}

/// How many pods one request may have. The instruments have room for the attribute sets of this
/// many, so the number of links never reaches the SDK's limit. Nearly every node has fewer
/// activators and sends one request; 200, the most that a node is designed for, take four.
pub(super) const REQUEST_LINKS: usize = 64;
/// How large the points of one request may be. A Collector takes 4 MiB, uncompressed
/// (`max_recv_msg_size_mib` of its `otlp` receiver). A quarter is left for the resource, the
/// agent's own figures and the histograms. With names of 30 characters, [`REQUEST_LINKS`] take 0.7
/// MB.
const REQUEST_BYTES: usize = 3 << 20;
/// The most points of one pod: errors of each kind and cause, checks of each kind, and six more.
const POINTS: usize = CheckKind::ALL.len() * (Cause::ALL.len() + 1) + 6;
/// One point without the pod's names: times and value (3 × 9), keys and values of five attributes
/// (68 for the keys, 31 for the longest kind and cause), and the framing of all of them (5 × 8, and 8).
const POINT_BYTES: usize = 180;
