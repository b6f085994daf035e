//! The links, by name and by source, and the sources that are tracked for them.

use std::collections::{BTreeMap, HashMap};

use statlink_ebpf::Source;

use super::{bypass::Bypass, completeness::Completeness, owed::Owed, publish::Publication};
use crate::{
    discovery::NodeNamespaces,
    kernel::{Kernel, KernelError},
    link::{Cause, LinkMachine},
    link_event::LinkName,
    memory::ProcessId,
    snapshot::SeriesName,
    time::Timestamp,
};

/// Identifies one link for as long as this agent runs; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LinkId(pub(super) u64);

/// One link, with what the agent keeps beside its state machine.
pub(super) struct Entry {
    pub(super) name: LinkName,
    pub(super) source: Source,
    /// Its pod's uid; `None` outside of Kubernetes.
    pub(super) pod_uid: Option<String>,
    /// Identifies its process for a successor; `None` if the process had ended before it was looked
    /// at.
    pub(super) process: Option<ProcessId>,
    pub(super) machine: Box<dyn LinkMachine>,
    pub(super) publication: Publication,
    pub(super) owed: Owed,
    pub(super) completeness: Completeness,
    pub(super) bypass: Bypass,
}

impl Entry {
    /// A link that was discovered at `now`.
    pub(super) fn new(
        name: LinkName,
        source: Source,
        pod_uid: Option<String>,
        machine: Box<dyn LinkMachine>,
        now: Timestamp,
    ) -> Self {
        Self {
            name,
            source,
            pod_uid,
            process: None,
            machine,
            publication: Publication::default(),
            owed: Owed::at_discovery(now),
            completeness: Completeness::default(),
            bypass: Bypass::default(),
        }
    }

    /// The series that the link counts for.
    pub(super) fn series(&self) -> SeriesName {
        SeriesName {
            peer: self.name.peer.clone(),
            namespace: self.name.namespace.clone(),
            pod: self.name.pod.clone(),
        }
    }

    /// Whether its state is known. If it is not, nobody knows either whether it was ever reachable.
    pub(super) fn is_known(&self) -> bool {
        self.machine.state().unknown_reason().is_none()
    }

    /// Why its process has never been reachable, if it is known that it has not.
    pub(super) fn unreached(&self) -> Option<Cause> {
        self.machine.never_reachable().filter(|_| self.is_known())
    }

    /// When the link or its log needs the next call.
    fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = [
            self.machine.next_deadline(),
            self.publication.next_deadline(),
            self.completeness.next(),
        ];
        deadlines.into_iter().flatten().min()
    }
}

/// What the registry asks of the kernel half.
pub(super) trait Tracking {
    /// Tracks a source; `false` if there is no room for it.
    fn track(&mut self, source: Source) -> Result<bool, KernelError>;

    /// Stops tracking a source.
    fn untrack(&mut self, source: Source) -> Result<(), KernelError>;
}

impl Tracking for Kernel {
    fn track(&mut self, source: Source) -> Result<bool, KernelError> {
        self.track(source)
    }

    fn untrack(&mut self, source: Source) -> Result<(), KernelError> {
        self.untrack(source)
    }
}

/// All links.
#[derive(Default)]
pub(super) struct Registry {
    entries: BTreeMap<LinkId, Entry>,
    by_source: HashMap<Source, LinkId>,
    /// How many links there have been.
    discovered: u64,
    warned_of_full: bool,
}

impl Registry {
    /// Whether this process has a link.
    pub(super) fn contains(&self, source: Source) -> bool {
        self.by_source.contains_key(&source)
    }

    /// The link of this source.
    pub(super) fn by_source(&self, source: Source) -> Option<LinkId> {
        self.by_source.get(&source).copied()
    }

    /// The links whose proxies run in this network namespace. None for a node's namespace, where
    /// any process would be taken for a proxy.
    pub(super) fn watching(&self, netns: u32, nodes: &NodeNamespaces) -> Vec<LinkId> {
        if !nodes.is_pods_own(netns) {
            return Vec::new();
        }
        self.ids_where(|entry| entry.source.netns == netns)
    }

    /// The links of this pod.
    pub(super) fn of_pod(&self, uid: &str) -> Vec<LinkId> {
        self.ids_where(|entry| entry.pod_uid.as_deref() == Some(uid))
    }

    /// The links of this process.
    pub(super) fn of_process(&self, tgid: u32) -> Vec<LinkId> {
        self.ids_where(|entry| entry.source.tgid == tgid)
    }

    /// The links that need a call by `now`.
    pub(super) fn due(&self, now: Timestamp) -> Vec<LinkId> {
        let is_due = |due: Option<Timestamp>| due.is_some_and(|at| at <= now);
        self.ids_where(|entry| is_due(entry.machine.next_deadline()))
    }

    /// Every link, in the order of discovery.
    pub(super) fn ids(&self) -> Vec<LinkId> {
        self.entries.keys().copied().collect()
    }

    fn ids_where(&self, holds: impl Fn(&Entry) -> bool) -> Vec<LinkId> {
        let entries = self.entries.iter();
        entries
            .filter(|(_, entry)| holds(entry))
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn get(&self, id: LinkId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: LinkId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    /// Every link with its name, in the order of discovery.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (LinkId, &mut Entry)> {
        self.entries.iter_mut().map(|(id, entry)| (*id, entry))
    }

    /// When a link or its log needs the next call.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let entries = self.entries.values();
        entries.filter_map(Entry::next_deadline).min()
    }

    /// When a link is next owed a reconciliation.
    pub(super) fn next_owed(&self) -> Option<Timestamp> {
        let entries = self.entries.values();
        entries.filter_map(|entry| entry.owed.next()).min()
    }

    /// Adds a link and tracks its source and, in a pod's own namespace, its proxies. Without room
    /// for the source, returns `None` and adds no link.
    pub(super) fn add(
        &mut self,
        entry: Entry,
        nodes: &NodeNamespaces,
        kernel: &mut impl Tracking,
    ) -> Result<Option<LinkId>, KernelError> {
        let source = entry.source;
        if !self.track(source, kernel)? {
            return Ok(None);
        }
        if nodes.is_pods_own(source.netns) {
            // Without room for the proxies, no proxy explains a failure; the link itself works.
            self.track(Source::whole_namespace(source.netns), kernel)?;
        }
        self.discovered += 1;
        let id = LinkId(self.discovered);
        self.by_source.insert(source, id);
        self.entries.insert(id, entry);
        Ok(Some(id))
    }

    /// Removes a link, and stops tracking what no other link needs.
    pub(super) fn remove(
        &mut self,
        id: LinkId,
        nodes: &NodeNamespaces,
        kernel: &mut impl Tracking,
    ) -> Result<(), KernelError> {
        let Some(entry) = self.entries.remove(&id) else {
            return Ok(());
        };
        let source = entry.source;
        self.by_source.remove(&source);
        kernel.untrack(source)?;
        if self.watching(source.netns, nodes).is_empty() {
            kernel.untrack(Source::whole_namespace(source.netns))?;
        }
        Ok(())
    }

    fn track(&mut self, source: Source, kernel: &mut impl Tracking) -> Result<bool, KernelError> {
        let tracked = kernel.track(source)?;
        if !tracked && !self.warned_of_full {
            self.warned_of_full = true;
            tracing::warn!(
                pid = source.tgid,
                "More activators run here than can be watched: some have no link, or no proxy explains their failures."
            );
        }
        Ok(tracked)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::link::{Input, Shape, UnknownReason};

    pub(in super::super) const HOST: u32 = 1;
    pub(in super::super) const POD: u32 = 2;

    /// A kernel half with room for some sources.
    struct Room {
        tracked: BTreeSet<Source>,
        room: usize,
    }

    impl Room {
        fn of(room: usize) -> Self {
            Self {
                tracked: BTreeSet::new(),
                room,
            }
        }
    }

    impl Tracking for Room {
        fn track(&mut self, source: Source) -> Result<bool, KernelError> {
            if self.tracked.len() >= self.room && !self.tracked.contains(&source) {
                return Ok(false);
            }
            self.tracked.insert(source);
            Ok(true)
        }

        fn untrack(&mut self, source: Source) -> Result<(), KernelError> {
            self.tracked.remove(&source);
            Ok(())
        }
    }

    pub(in super::super) fn nodes() -> NodeNamespaces {
        let mut nodes = NodeNamespaces::default();
        nodes.set_host(Some(HOST));
        nodes
    }

    fn entry(netns: u32, tgid: u32) -> Entry {
        let now = Timestamp::from_nanos(0);
        let name = LinkName {
            peer: "autoscaler".to_owned(),
            namespace: "knative-serving".to_owned(),
            pod: format!("activator-{tgid}"),
            pid: tgid,
        };
        let uid = Some(format!("uid-{tgid}"));
        let source = Source { netns, tgid };
        Entry::new(name, source, uid, Shape::One.discovered(now), now)
    }

    /// A registry with one link for each of these processes.
    pub(in super::super) fn registry_of(processes: &[(u32, u32)]) -> (Registry, Vec<LinkId>) {
        let mut registry = Registry::default();
        let mut kernel = Room::of(usize::MAX);
        let ids = processes.iter().map(|(netns, tgid)| {
            let added = registry.add(entry(*netns, *tgid), &nodes(), &mut kernel);
            added.unwrap().unwrap()
        });
        let ids = ids.collect();
        (registry, ids)
    }

    #[test]
    fn a_pods_proxies_are_tracked_for_as_long_as_it_has_a_link() {
        let mut registry = Registry::default();
        let mut kernel = Room::of(10);
        let nodes = nodes();
        let mut add = |tgid| {
            let added = registry.add(entry(POD, tgid), &nodes, &mut kernel);
            added.unwrap().unwrap()
        };
        let (first, second) = (add(7), add(8));
        let whole = Source::whole_namespace(POD);
        registry.remove(first, &nodes, &mut kernel).unwrap();
        assert!(kernel.tracked.contains(&whole));
        registry.remove(second, &nodes, &mut kernel).unwrap();
        assert!(kernel.tracked.is_empty(), "{:?}", kernel.tracked);
    }

    /// The client may have a connection that nobody sees.
    #[test]
    fn of_a_process_of_which_nobody_can_tell_it_is_not_left_that_it_never_was_reachable() {
        let mut entry = entry(POD, 7);
        let now = Timestamp::from_nanos(1);
        assert!(entry.unreached().is_some());
        let reason = UnknownReason::NotListed;
        let mut outputs = Vec::new();
        let lost = Input::EvidenceLost(reason);
        entry.machine.handle(now, lost, &mut outputs);
        assert_eq!(entry.unreached(), None);
        let back = Input::EvidenceBack(reason);
        entry.machine.handle(now, back, &mut outputs);
        assert!(entry.unreached().is_some());
    }

    #[test]
    fn on_the_hosts_network_nobody_is_a_proxy() {
        let mut registry = Registry::default();
        let mut kernel = Room::of(10);
        registry.add(entry(HOST, 7), &nodes(), &mut kernel).unwrap();
        let tracked: Vec<_> = kernel.tracked.iter().collect();
        assert_eq!(
            tracked,
            [&Source {
                netns: HOST,
                tgid: 7
            }]
        );
        assert!(registry.watching(HOST, &nodes()).is_empty());
    }

    #[test]
    fn without_room_for_its_source_there_is_no_link() {
        let mut registry = Registry::default();
        let mut kernel = Room::of(1);
        // There is no room for its proxies; the client still gets a link.
        let first = registry.add(entry(POD, 7), &nodes(), &mut kernel).unwrap();
        assert!(first.is_some());
        let second = registry.add(entry(POD, 8), &nodes(), &mut kernel).unwrap();
        assert!(second.is_none());
        assert_eq!(registry.ids(), [first.unwrap()]);
    }

    #[test]
    fn links_are_found_by_source_pod_and_namespace() {
        let (registry, ids) = registry_of(&[(POD, 7), (3, 8), (POD, 9)]);
        let source = Source { netns: 3, tgid: 8 };
        assert_eq!(registry.by_source(source), Some(ids[1]));
        assert_eq!(registry.by_source(Source { netns: 3, tgid: 7 }), None);
        assert_eq!(registry.of_pod("uid-9"), [ids[2]]);
        assert_eq!(registry.watching(POD, &nodes()), [ids[0], ids[2]]);
    }

    #[test]
    fn a_name_is_never_used_again() {
        let (mut registry, ids) = registry_of(&[(POD, 7)]);
        let mut kernel = Room::of(10);
        registry.remove(ids[0], &nodes(), &mut kernel).unwrap();
        let again = registry.add(entry(POD, 7), &nodes(), &mut kernel).unwrap();
        assert_ne!(again, Some(ids[0]));
    }
}
