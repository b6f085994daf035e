//! What the API has told so far: pure, news in, who is who out.
//!
//! When the API goes away nothing here changes: what was known stays true.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

use kube::{Resource, runtime::watcher::Event};

use super::{
    super::container::Container,
    object::{EndpointSlice, Pod, Service},
};

/// One event of one watch.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// Of this node's pods of one peering, by its place among them.
    Pods(usize, Event<Pod>),
    /// Of the peer's Service.
    Services(Event<Service>),
    /// Of its EndpointSlices.
    EndpointSlices(Event<EndpointSlice>),
}

/// What some news changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Pods that are terminating or gone, by uid: their links' end is expected.
    pub(crate) ended: Vec<String>,
    /// Processes may have got a name.
    pub(crate) names: bool,
    /// The peer's addresses are others.
    pub(crate) addresses: bool,
}

/// Whose container it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The one of this pod that dials.
    Dialler {
        /// The peering's place.
        row: usize,
        named: Named,
    },
    /// Another container of such a pod, or one whose end is expected.
    Another,
    /// The API has not told.
    Unknown,
}

/// What an activator is called, and what comes with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its pod's name.
    pub(crate) pod: String,
    /// Its pod's namespace.
    pub(crate) namespace: String,
    /// Whether its network is known to be its node's.
    pub(crate) host_network: bool,
}

/// What is known of the cluster, as far as links need it.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// Of each peering: the name of the container that dials, and the pods.
    pods: Vec<(String, Listing<PodFacts>)>,
    services: Listing<BTreeSet<IpAddr>>,
    slices: Listing<BTreeSet<IpAddr>>,
    /// Uids of the last pods that ended: a process may outlive its pod's object.
    ended: VecDeque<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PodFacts {
    named: Named,
    terminating: bool,
    /// Name by id.
    containers: BTreeMap<String, String>,
}

/// The objects of one watch, by a key of theirs.
#[derive(Debug)]
struct Listing<V> {
    known: BTreeMap<String, V>,
    /// A listing under way, which replaces all that is known once it is complete.
    relisting: BTreeMap<String, V>,
    complete: bool,
}

impl Directory {
    /// Knows nothing yet; `containers` are the names of those that dial, of each peering.
    pub(crate) fn new(containers: impl IntoIterator<Item = String>) -> Self {
        let pods = |container| (container, Listing::default());
        Self {
            pods: containers.into_iter().map(pods).collect(),
            ..Self::default()
        }
    }

    /// Whether everything was listed once.
    pub(crate) fn is_synced(&self) -> bool {
        self.knows_pods() && self.services.complete && self.slices.complete
    }

    /// Whether the pods were listed once.
    pub(crate) fn knows_pods(&self) -> bool {
        self.pods.iter().all(|(_, pods)| pods.complete)
    }

    /// Takes in one event.
    pub(crate) fn take(&mut self, news: News) -> Change {
        let before = self.peer_addresses();
        let mut change = Change::default();
        match news {
            News::Pods(row, event) => {
                let Some((_, pods)) = self.pods.get_mut(row) else {
                    return change;
                };
                // Of a listing nothing is known before its end.
                change.names = !matches!(event, Event::Init | Event::InitApply(_));
                let gone = pods.take(event, pod);
                let terminating = |facts: &&PodFacts| facts.terminating;
                let known = pods.known.iter();
                let ending = known.filter(|(_, facts)| terminating(facts));
                change.ended = ending
                    .map(|(uid, _)| uid.clone())
                    .chain(gone)
                    .filter(|uid| !self.ended.contains(uid))
                    .collect();
                self.bury(&change.ended);
            }
            News::Services(event) => {
                self.services.take(event, |service| {
                    Some((service.metadata.name.clone()?, service.addresses()))
                });
            }
            News::EndpointSlices(event) => {
                self.slices.take(event, |slice| {
                    Some((slice.metadata.name.clone()?, slice.addresses()))
                });
            }
        }
        change.addresses = self.peer_addresses() != before;
        change
    }

    /// Whose container this is.
    pub(crate) fn who(&self, container: &Container) -> Who {
        if self.ended.contains(&container.pod_uid) {
            return Who::Another;
        }
        let mut rows = self.pods.iter().enumerate();
        let found = rows.find_map(|(row, (dialler, pods))| {
            Some((row, dialler, pods.known.get(&container.pod_uid)?))
        });
        let Some((row, dialler, facts)) = found else {
            return Who::Unknown;
        };
        match facts.containers.get(&container.id) {
            Some(name) if name != dialler => Who::Another,
            // The kubelet reports a container's id some time after its start. A process of the
            // dialler's name in a dialler's pod is taken for it until then.
            Some(_) | None => Who::Dialler {
                row,
                named: facts.named.clone(),
            },
        }
    }

    /// Every address of the peer; `None` while that is not known, or while it has no Service.
    pub(crate) fn peer_addresses(&self) -> Option<BTreeSet<IpAddr>> {
        if !(self.services.complete && self.slices.complete) || self.services.known.is_empty() {
            return None;
        }
        let sets = self
            .services
            .known
            .values()
            .chain(self.slices.known.values());
        Some(sets.flatten().copied().collect())
    }

    fn bury(&mut self, uids: &[String]) {
        self.ended.extend(uids.iter().cloned());
        while self.ended.len() > ENDED {
            self.ended.pop_front();
        }
    }
}

impl<V> Listing<V> {
    /// Takes in one event; gives the keys that are gone.
    fn take<K: Resource>(
        &mut self,
        event: Event<K>,
        facts: impl Fn(&K) -> Option<(String, V)>,
    ) -> Vec<String> {
        match event {
            Event::Apply(object) => {
                self.known.extend(facts(&object));
                Vec::new()
            }
            Event::Delete(object) => facts(&object)
                .and_then(|(key, _)| self.known.remove(&key).map(|_| key))
                .into_iter()
                .collect(),
            Event::Init => {
                self.relisting.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.relisting.extend(facts(&object));
                Vec::new()
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.relisting);
                let before = std::mem::replace(&mut self.known, listed);
                self.complete = true;
                before
                    .into_keys()
                    .filter(|key| !self.known.contains_key(key))
                    .collect()
            }
        }
    }
}

impl<V> Default for Listing<V> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            relisting: BTreeMap::new(),
            complete: false,
        }
    }
}

fn pod(pod: &Pod) -> Option<(String, PodFacts)> {
    let metadata = &pod.metadata;
    let facts = PodFacts {
        named: Named {
            pod: metadata.name.clone()?,
            namespace: metadata.namespace.clone()?,
            host_network: pod.is_on_host_network(),
        },
        terminating: pod.is_terminating(),
        containers: pod
            .containers()
            .map(|(name, id)| (id.to_owned(), name.to_owned()))
            .collect(),
    };
    Some((metadata.uid.clone()?, facts))
}

/// How many ended pods are remembered. A process that outlives its pod's object does so by
/// seconds.
const ENDED: usize = 256;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, name: &str, terminating: bool) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "namespace": "knative-serving",
                "uid": uid,
                "deletionTimestamp": terminating.then_some("2026-01-02T03:04:05Z"),
            },
            "status": { "containerStatuses": [
                { "name": "activator", "containerID": format!("containerd://{uid}-activator") },
                { "name": "proxy", "containerID": format!("containerd://{uid}-proxy") },
            ]},
        }))
        .unwrap()
    }

    fn service(name: &str, address: &str) -> Service {
        serde_json::from_value(json!({
            "metadata": { "name": name }, "spec": { "clusterIPs": [address] },
        }))
        .unwrap()
    }

    fn slice(name: &str, addresses: &[&str]) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": { "name": name }, "endpoints": [{ "addresses": addresses }],
        }))
        .unwrap()
    }

    fn container(uid: &str, name: &str) -> Container {
        Container {
            pod_uid: uid.to_owned(),
            id: format!("{uid}-{name}"),
        }
    }

    fn listed(directory: &mut Directory, pods: &[Pod]) -> Change {
        directory.take(News::Pods(0, Event::Init));
        for pod in pods {
            directory.take(News::Pods(0, Event::InitApply(pod.clone())));
        }
        directory.take(News::Pods(0, Event::InitDone))
    }

    fn directory(pods: &[Pod]) -> Directory {
        let mut directory = Directory::new(["activator".to_owned(), "autoscaler".to_owned()]);
        listed(&mut directory, pods);
        directory.take(News::Pods(1, Event::InitDone));
        directory
    }

    fn activator(pod: &str) -> Who {
        Who::Dialler {
            row: 0,
            named: Named {
                pod: pod.to_owned(),
                namespace: "knative-serving".to_owned(),
                host_network: false,
            },
        }
    }

    #[test]
    fn the_activator_s_container_alone_is_the_activator() {
        let directory = directory(&[pod("a", "activator-1", false)]);
        assert_eq!(
            directory.who(&container("a", "activator")),
            activator("activator-1")
        );
        assert_eq!(directory.who(&container("a", "proxy")), Who::Another);
        assert_eq!(directory.who(&container("b", "activator")), Who::Unknown);
    }

    #[test]
    fn each_peering_has_pods_of_its_own() {
        let mut directory = directory(&[pod("a", "activator-1", false)]);
        let other = News::Pods(1, Event::Apply(pod("b", "autoscaler-1", false)));
        assert!(directory.take(other).names);
        let unreported = container("b", "new");
        let Who::Dialler { row, named } = directory.who(&unreported) else {
            panic!("{:?}", directory.who(&unreported));
        };
        assert_eq!((row, named.pod.as_str()), (1, "autoscaler-1"));
        assert_eq!(directory.who(&container("b", "activator")), Who::Another);
        // A listing of the one says nothing of the other's.
        assert_eq!(listed(&mut directory, &[]).ended, ["a"]);
        assert_ne!(directory.who(&unreported), Who::Another);
    }

    #[test]
    fn whose_network_is_the_node_s_is_told() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "activator-1", "namespace": "knative-serving", "uid": "a" },
            "spec": { "hostNetwork": true },
        }))
        .unwrap();
        let who = directory(&[pod]).who(&container("a", "activator"));
        assert!(
            matches!(&who, Who::Dialler { named, .. } if named.host_network),
            "{who:?}"
        );
    }

    #[test]
    fn a_container_the_kubelet_has_not_reported_yet_is_taken_for_it() {
        let directory = directory(&[pod("a", "activator-1", false)]);
        assert_eq!(
            directory.who(&container("a", "restarted")),
            activator("activator-1")
        );
    }

    #[test]
    fn a_terminating_pod_has_ended_once_and_for_all() {
        let mut directory = directory(&[pod("a", "activator-1", false)]);
        let terminating = News::Pods(0, Event::Apply(pod("a", "activator-1", true)));
        assert_eq!(directory.take(terminating.clone()).ended, ["a"]);
        assert!(directory.take(terminating).ended.is_empty(), "told twice");
        // Its process lives on, and still does when the object is gone.
        assert_eq!(directory.who(&container("a", "activator")), Who::Another);
        let deleted = News::Pods(0, Event::Delete(pod("a", "activator-1", true)));
        assert!(directory.take(deleted).ended.is_empty());
        assert_eq!(directory.who(&container("a", "activator")), Who::Another);
    }

    #[test]
    fn a_pod_that_is_deleted_at_once_has_ended() {
        let mut directory = directory(&[pod("a", "activator-1", false)]);
        let deleted = News::Pods(0, Event::Delete(pod("a", "activator-1", false)));
        assert_eq!(directory.take(deleted).ended, ["a"]);
        assert_eq!(directory.who(&container("a", "activator")), Who::Another);
    }

    #[test]
    fn a_pod_that_is_gone_from_a_new_listing_has_ended() {
        let mut directory = directory(&[pod("a", "one", false), pod("b", "two", false)]);
        // Of a listing that breaks off nothing follows.
        directory.take(News::Pods(0, Event::Init));
        directory.take(News::Pods(0, Event::InitApply(pod("b", "two", false))));
        assert_eq!(
            directory.who(&container("a", "activator")),
            activator("one")
        );
        let change = listed(&mut directory, &[pod("b", "two", false)]);
        assert_eq!(change.ended, ["a"]);
        assert_eq!(
            directory.who(&container("b", "activator")),
            activator("two")
        );
    }

    #[test]
    fn a_pod_of_the_same_name_is_told_apart_by_its_uid() {
        let mut directory = directory(&[pod("a", "activator-0", false)]);
        directory.take(News::Pods(0, Event::Apply(pod("a", "activator-0", true))));
        directory.take(News::Pods(0, Event::Delete(pod("a", "activator-0", true))));
        let change = directory.take(News::Pods(0, Event::Apply(pod("b", "activator-0", false))));
        assert!(change.names && change.ended.is_empty());
        assert_eq!(directory.who(&container("a", "activator")), Who::Another);
        assert_eq!(
            directory.who(&container("b", "activator")),
            activator("activator-0")
        );
    }

    #[test]
    fn the_ended_are_remembered_within_bounds() {
        let mut directory = directory(&[]);
        for n in 0..2 * ENDED {
            let uid = n.to_string();
            directory.take(News::Pods(0, Event::Apply(pod(&uid, "x", true))));
            directory.take(News::Pods(0, Event::Delete(pod(&uid, "x", true))));
        }
        assert_eq!(directory.ended.len(), ENDED);
        assert!(directory.pods[0].1.known.is_empty());
    }

    #[test]
    fn the_peer_s_addresses_are_known_once_both_are_listed() {
        let mut directory = directory(&[]);
        assert_eq!(directory.peer_addresses(), None);
        let service = service("autoscaler", "10.96.0.9");
        directory.take(News::Services(Event::InitApply(service.clone())));
        assert!(!directory.take(News::Services(Event::InitDone)).addresses);
        assert!(directory.knows_pods() && !directory.is_synced());
        assert!(
            directory
                .take(News::EndpointSlices(Event::InitDone))
                .addresses
        );
        assert!(directory.is_synced());
        let known =
            |addresses: &[&str]| Some(addresses.iter().map(|a| a.parse().unwrap()).collect());
        assert_eq!(directory.peer_addresses(), known(&["10.96.0.9"]));

        let change = directory.take(News::EndpointSlices(Event::Apply(slice(
            "s",
            &["10.1.0.7"],
        ))));
        assert!(change.addresses && !change.names);
        assert_eq!(
            directory.peer_addresses(),
            known(&["10.1.0.7", "10.96.0.9"])
        );
        // A mere update changes nothing.
        let change = directory.take(News::EndpointSlices(Event::Apply(slice(
            "s",
            &["10.1.0.7"],
        ))));
        assert!(!change.addresses);
        // Without a Service nobody knows what a right address would be.
        assert!(
            directory
                .take(News::Services(Event::Delete(service)))
                .addresses
        );
        assert_eq!(directory.peer_addresses(), None);
    }
}
