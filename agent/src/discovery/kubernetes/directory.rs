//! What the API has said so far. Pure: events in, answers out.
//!
//! When the API goes away nothing here changes: what was known stays known.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

use kube::runtime::watcher::Event;

use super::{
    super::{container::Container, name},
    listing::Listing,
    object::{EndpointSlice, Pod, Service},
};

/// One event of one watch.
#[derive(Clone, Debug)]
pub(crate) enum WatchEvent {
    /// About this node's pods of one kind of link, by the kind's index.
    Pods(usize, Event<Pod>),
    /// About the peer's Service.
    Services(Event<Service>),
    /// About its EndpointSlices.
    EndpointSlices(Event<EndpointSlice>),
    /// About a watch itself.
    Health(Watched, WatchHealth),
}

/// The objects of one watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Watched {
    /// This node's pods of one kind of link, by the kind's index.
    Pods(usize),
    Services,
    EndpointSlices,
}

/// Whether the information from a watch is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchHealth {
    /// The API server has answered, and reports every change.
    Current,
    /// The watch has failed: the agent may miss changes.
    Stale,
}

/// What an event changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Uids of pods that are terminating or gone: their links' end is expected.
    pub(crate) ended: Vec<String>,
    /// Whether processes may have got a name.
    pub(crate) names: bool,
    /// Whether the peer's addresses changed.
    pub(crate) addresses: bool,
}

/// The owner of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContainerOwner {
    /// The container is the client container of this pod.
    Client {
        /// Index of the kind of link.
        kind: usize,
        identity: PodIdentity,
        /// Whether the kubelet has reported it as that container.
        reported: bool,
    },
    /// The container is a sidecar of such a pod, or its pod has ended.
    Other,
    /// The API has not listed its pod.
    Unknown,
}

/// The identity of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodIdentity {
    /// Its pod's uid; `None` if unknown.
    pub(crate) uid: Option<String>,
    /// Name of its pod.
    pub(crate) pod: String,
    /// Namespace of its pod.
    pub(crate) namespace: String,
    /// Whether its pod is known to use its node's network.
    pub(crate) host_network: bool,
}

/// A pod that runs on this node, with its client's container running if it has one.
#[derive(Clone, Debug)]
pub(crate) struct RunningPod<'a> {
    /// Index of the kind of link.
    pub(crate) kind: usize,
    pub(crate) uid: &'a str,
    pub(crate) identity: &'a PodIdentity,
    /// Its RuntimeClass, if it has one.
    pub(crate) runtime_class: Option<&'a str>,
    /// The name that its client's container should have, if it has none of that name.
    pub(crate) lacks_container: Option<&'a str>,
}

impl PodIdentity {
    /// Whether it has the name of `other`.
    pub(crate) fn is_pod_of(&self, other: &Self) -> bool {
        self.pod == other.pod && self.namespace == other.namespace
    }
}

/// What is known of the cluster, as far as links need it.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// For each kind of link: the name of the client container, and the pods by uid.
    pods: Vec<(String, Listing<PodFacts>)>,
    /// `None` in it means that only a name server knows the addresses.
    services: Listing<Option<BTreeSet<IpAddr>>>,
    slices: Listing<Option<BTreeSet<IpAddr>>>,
    /// The watches that have failed and not recovered.
    stale: BTreeSet<Watched>,
    /// The pods that ended last: a process may outlive its pod's object.
    ended: VecDeque<EndedPod>,
}

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PodFacts {
    identity: PodIdentity,
    terminating: bool,
    /// Container names by container id.
    containers: BTreeMap<String, String>,
    /// The names of its containers, without those that run before or beside them.
    names: BTreeSet<String>,
    /// The names of those that run.
    running: BTreeSet<String>,
    runtime_class: Option<String>,
}

/// What is kept of a pod that is terminating or gone.
#[derive(Debug)]
struct EndedPod {
    uid: String,
    /// Ids of its containers.
    containers: BTreeSet<String>,
}

/// How many ended pods are remembered. A process outlives its pod's object by seconds, and a node
/// runs at most 110 pods by default (kubelet `maxPods`).
const MOST_ENDED: usize = 256;

impl Directory {
    /// A directory that knows nothing yet. `containers` are the names of the client containers, one
    /// for each kind of link.
    pub(crate) fn new(containers: impl IntoIterator<Item = String>) -> Self {
        let pods = |container| (container, Listing::default());
        Self {
            pods: containers.into_iter().map(pods).collect(),
            ..Self::default()
        }
    }

    /// Whether every watch has completed its first listing.
    pub(crate) fn is_synced(&self) -> bool {
        self.knows_pods() && self.services.is_complete() && self.slices.is_complete()
    }

    /// Whether the pods were listed once.
    pub(crate) fn knows_pods(&self) -> bool {
        self.pods.iter().all(|(_, pods)| pods.is_complete())
    }

    /// Whether the pod of this uid is listed.
    pub(crate) fn lists_pod(&self, uid: &str) -> bool {
        self.pods
            .iter()
            .any(|(_, pods)| pods.known().contains_key(uid))
    }

    /// Whether all watches of pods are current: then a pod that is not known does not run here.
    pub(crate) fn tells_of_pods(&self) -> bool {
        let is_stale = |watch: &Watched| matches!(watch, Watched::Pods(_));
        self.knows_pods() && !self.stale.iter().any(is_stale)
    }

    /// Whether a pod has this name.
    pub(crate) fn knows_name(&self, name: &PodIdentity) -> bool {
        let all = self.pods.iter().flat_map(|(_, pods)| pods.known().values());
        all.into_iter().any(|facts| facts.identity.is_pod_of(name))
    }

    /// The pods that run here. Those that are terminating are left out.
    pub(crate) fn running(&self) -> impl Iterator<Item = RunningPod<'_>> {
        let kinds = self.pods.iter().enumerate();
        kinds.flat_map(|(kind, (client, pods))| {
            let pods = pods.known().iter();
            let running = pods.filter(|(_, facts)| !facts.terminating && facts.runs(client));
            running.map(move |(uid, facts)| RunningPod {
                kind,
                uid,
                identity: &facts.identity,
                runtime_class: facts.runtime_class.as_deref(),
                lacks_container: (!facts.names.contains(client)).then_some(client),
            })
        })
    }

    /// Takes in one event.
    pub(crate) fn apply(&mut self, event: WatchEvent) -> Change {
        let before = self.peer_addresses();
        let mut change = Change::default();
        match event {
            WatchEvent::Pods(kind, event) => {
                let Some((_, pods)) = self.pods.get_mut(kind) else {
                    return change;
                };
                // A listing counts only once it is complete.
                change.names = !matches!(event, Event::Init | Event::InitApply(_));
                let gone = pods.apply(event, pod_facts);
                // A pod that is listed again, because its label was put back, has not ended.
                let runs = |facts: &PodFacts| !facts.terminating;
                let known = pods.known();
                self.ended
                    .retain(|pod| !known.get(&pod.uid).is_some_and(runs));
                let known = pods.known().iter();
                let ending = known.filter(|(_, facts)| facts.terminating);
                let ended: Vec<_> = ending
                    .map(|(uid, facts)| EndedPod::of(uid, facts))
                    .chain(gone.iter().map(|(uid, facts)| EndedPod::of(uid, facts)))
                    .filter(|pod| !self.ended.iter().any(|ended| ended.uid == pod.uid))
                    .collect();
                change.ended = ended.iter().map(|pod| pod.uid.clone()).collect();
                self.remember_ended(ended);
            }
            WatchEvent::Services(event) => {
                self.services.apply(event, |service| {
                    Some((service.metadata.name.clone()?, service.addresses()))
                });
            }
            WatchEvent::EndpointSlices(event) => {
                self.slices.apply(event, |slice| {
                    Some((slice.metadata.name.clone()?, slice.addresses()))
                });
            }
            WatchEvent::Health(watch, health) => {
                let tells = self.tells_of_pods();
                match health {
                    WatchHealth::Current => self.stale.remove(&watch),
                    WatchHealth::Stale => self.stale.insert(watch),
                };
                // Without the API, a process's environment may name it.
                change.names = tells && !self.tells_of_pods();
            }
        }
        change.addresses = self.peer_addresses() != before;
        change
    }

    /// Who this container belongs to.
    pub(crate) fn owner(&self, container: &Container) -> ContainerOwner {
        if self.ended.iter().any(|pod| pod.has(container)) {
            return ContainerOwner::Other;
        }
        let Some((kind, client, facts)) = self.pod_of(container) else {
            return ContainerOwner::Unknown;
        };
        let name = container
            .id
            .as_ref()
            .and_then(|id| facts.containers.get(id));
        match name {
            Some(name) if name != client => ContainerOwner::Other,
            // The kubelet reports a container's id some time after its start. Until then, a process
            // with the client's process name in such a pod counts as the client.
            Some(_) | None => ContainerOwner::Client {
                kind,
                identity: facts.identity.clone(),
                reported: name.is_some(),
            },
        }
    }

    /// The pod of this container with its kind of link: by the pod's uid, or else by the container
    /// id that the kubelet reported.
    fn pod_of(&self, container: &Container) -> Option<(usize, &String, &PodFacts)> {
        let kinds = || self.pods.iter().enumerate();
        let by_uid = container.pod_uid.as_ref().and_then(|uid| {
            kinds().find_map(|(kind, (client, pods))| Some((kind, client, pods.known().get(uid)?)))
        });
        by_uid.or_else(|| {
            let id = container.id.as_ref()?;
            kinds().find_map(|(kind, (client, pods))| {
                let mut pods = pods.known().values();
                let facts = pods.find(|facts| facts.containers.contains_key(id))?;
                Some((kind, client, facts))
            })
        })
    }

    /// Every address of the peer. `None` if they are not known: one of the two watches has not
    /// listed or has failed, there is no Service, only a name server knows the addresses, or there
    /// are none. An address that is missing in such an incomplete set would say nothing.
    pub(crate) fn peer_addresses(&self) -> Option<BTreeSet<IpAddr>> {
        let is_stale = [Watched::Services, Watched::EndpointSlices]
            .iter()
            .any(|watch| self.stale.contains(watch));
        if is_stale {
            return None;
        }
        self.last_peer_addresses()
    }

    /// The current addresses, or the last known ones. A process that never went to any of them is
    /// no proxy, whatever happened to the API since.
    pub(crate) fn last_peer_addresses(&self) -> Option<BTreeSet<IpAddr>> {
        let complete = self.services.is_complete() && self.slices.is_complete();
        if !complete || self.services.known().is_empty() {
            return None;
        }
        let sets = self.services.known().values();
        let sets = sets.chain(self.slices.known().values());
        let sets = sets.map(Option::as_ref).collect::<Option<Vec<_>>>()?;
        let all: BTreeSet<_> = sets.into_iter().flatten().copied().collect();
        (!all.is_empty()).then_some(all)
    }

    fn remember_ended(&mut self, pods: Vec<EndedPod>) {
        self.ended.extend(pods);
        while self.ended.len() > MOST_ENDED {
            self.ended.pop_front();
        }
    }
}

impl PodFacts {
    /// Whether the container of this name runs, or any where there is none of this name.
    fn runs(&self, client: &str) -> bool {
        if self.names.contains(client) {
            self.running.contains(client)
        } else {
            !self.running.is_empty()
        }
    }
}

impl EndedPod {
    fn of(uid: &str, facts: &PodFacts) -> Self {
        Self {
            uid: uid.to_owned(),
            containers: facts.containers.keys().cloned().collect(),
        }
    }

    /// Whether this container was one of the pod's.
    fn has(&self, container: &Container) -> bool {
        container.pod_uid.as_ref() == Some(&self.uid)
            || container
                .id
                .as_ref()
                .is_some_and(|id| self.containers.contains(id))
    }
}

/// A pod's uid and its facts. `None` for an object that lacks the names that every pod has, or has
/// names that the API server would have refused.
fn pod_facts(pod: &Pod) -> Option<(String, PodFacts)> {
    let metadata = &pod.metadata;
    let uid = metadata.uid.clone()?;
    let name = metadata.name.clone();
    let name = name.filter(|it| name::is_subdomain(it))?;
    let namespace = metadata.namespace.clone();
    let namespace = namespace.filter(|it| name::is_label(it))?;
    let facts = PodFacts {
        identity: PodIdentity {
            uid: Some(uid.clone()),
            pod: name,
            namespace,
            host_network: pod.is_on_host_network(),
        },
        terminating: pod.is_terminating(),
        containers: pod
            .containers()
            .map(|(name, id)| (id.to_owned(), name.to_owned()))
            .collect(),
        names: pod.names().map(str::to_owned).collect(),
        running: pod.running().map(str::to_owned).collect(),
        runtime_class: pod.runtime_class().map(str::to_owned),
    };
    Some((uid, facts))
}

#[cfg(test)]
#[path = "directory_address_tests.rs"]
mod address_tests;
#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
