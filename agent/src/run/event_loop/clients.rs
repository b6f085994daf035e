//! Clients, as discovery finds them: how a link begins and ends.

use std::time::Duration;

use statlink_ebpf::Source;

use super::{
    super::{
        registry::{Entry, LinkId},
        snapshot,
    },
    EventLoop,
    succession::identify,
};
use crate::{
    clock,
    discovery::{AbsenceNews, Client, DiscoveryError, kubernetes::WatchEvent, was_started_by},
    kernel::KernelError,
    link::{Event, EventKind, Input, Output, UnknownReason},
    link_event::LinkName,
    time::Timestamp,
};

impl EventLoop {
    /// Looks at every process for new clients.
    pub(super) fn scan(&mut self) -> Result<(), KernelError> {
        self.scanned = clock::now();
        let found = self.discovery.scan(self.scanned);
        self.add_all(found.unwrap_or_else(|error| vec![Err(error)]))
    }

    /// Looks at processes that were executed, a few at a time: anybody can execute any number of them,
    /// and links must not wait.
    pub(super) fn inspect_executed(&mut self) -> Result<(), KernelError> {
        if self.executed.len() > MOST_EXECUTED {
            self.executed.clear();
            self.scan_at_once = true;
        }
        let few = self.executed.len().min(EXECUTED_AT_ONCE);
        let few: Vec<_> = self.executed.drain(..few).collect();
        for pid in few {
            self.inspect(pid)?;
        }
        Ok(())
    }

    /// Looks at one process, unless only the API can name it and has not done so yet.
    fn inspect(&mut self, pid: u32) -> Result<(), KernelError> {
        if self.waits_for_pods().is_some() {
            return Ok(());
        }
        let found = self.discovery.inspect(pid, clock::now());
        self.add_all(found.transpose().into_iter().collect())
    }

    /// Handles processes that waited for the API in vain.
    pub(super) fn discover_due(&mut self) -> Result<(), KernelError> {
        let now = clock::now();
        if self.discovery.next_deadline().is_some_and(|at| at <= now) {
            let found = self.discovery.on_deadline(now);
            self.add_all(found)?;
        }
        for news in self.discovery.look_for_absences(now) {
            log_absence(&news, now);
        }
        Ok(())
    }

    /// How much longer no process is taken for a client; `None` if that time is over. Only the API
    /// knows which processes are clients and which pods are terminating, so it gets a moment to
    /// answer first.
    pub(super) fn waits_for_pods(&self) -> Option<Duration> {
        let patience = (self.started + API_PATIENCE).saturating_since(clock::now());
        (!self.discovery.knows_pods() && !patience.is_zero()).then_some(patience)
    }

    fn add_all(&mut self, found: Vec<Result<Client, DiscoveryError>>) -> Result<(), KernelError> {
        for client in found {
            match client {
                Ok(client) => self.add(client)?,
                Err(error) => self.warn_unseen(&error),
            }
        }
        Ok(())
    }

    fn warn_unseen(&mut self, error: &DiscoveryError) {
        let now = std::time::Instant::now();
        if self.unseen.deserves_warning(now, error) {
            tracing::warn!(
                process.pid = error.pid(),
                %error,
                "An activator may go unseen."
            );
        }
    }

    /// Handles an event of the Kubernetes API.
    pub(super) fn apply(&mut self, event: WatchEvent) -> Result<(), KernelError> {
        let update = self.discovery.apply(event);
        for uid in &update.ended {
            for id in self.registry.of_pod(uid) {
                self.end(id)?;
            }
        }
        for pid in update.lost {
            for id in self.registry.of_process(pid) {
                tracing::info!(
                    process.pid = pid,
                    "A process is no activator after all: its link ends."
                );
                self.withdraw(id)?;
            }
        }
        for (pid, pod) in update.adopted {
            for id in self.registry.of_process(pid) {
                if let Some(entry) = self.registry.get_mut(id) {
                    entry.pod_uid.clone_from(&pod.uid);
                    if pod.host_network {
                        let nodes = self.discovery.node_namespaces_mut();
                        nodes.add_shared(entry.source.netns);
                    }
                }
            }
        }
        if update.addresses {
            for id in self.registry.ids() {
                self.hand_addresses(id)?;
            }
        }
        if update.rescan && self.discovery.knows_pods() {
            self.scan()?;
        }
        Ok(())
    }

    /// Has the API asked about addresses that clients went to and that it has not told of.
    pub(super) fn check_addresses(&self, input: &Input) {
        if let Input::Attempted { peer_address, .. } = input {
            self.discovery.went_to([*peer_address]);
        } else if let Input::Resynchronised { open, .. } = input {
            self.discovery
                .went_to(open.iter().map(|connection| connection.peer_address));
        }
    }

    fn hand_addresses(&mut self, id: LinkId) -> Result<(), KernelError> {
        let addresses = self.discovery.peer_addresses();
        self.handle(id, clock::now(), Input::PeerAddresses(addresses))
    }

    /// Gives a client that was found a link, if it has none yet.
    fn add(&mut self, client: Client) -> Result<(), KernelError> {
        let tgid = client.pid;
        let netns = match client.netns {
            Some(netns) => Some(netns),
            None => self.kernel.network_namespace(tgid)?,
        };
        let Some(netns) = netns else {
            tracing::debug!(tgid, "A client was gone before it was inspected.");
            self.release(tgid);
            return Ok(());
        };
        let source = Source { netns, tgid };
        if self.registry.contains(source) {
            return Ok(());
        }
        if client.host_network {
            self.discovery.node_namespaces_mut().add_shared(netns);
        }
        let name = LinkName {
            peer: client.kind.peer.into_owned(),
            namespace: client.namespace,
            pod: client.pod,
            pid: tgid,
        };
        let now = clock::now();
        let machine = client.kind.shape.discovered(now);
        let mut entry = Entry::new(name, source, client.pod_uid, machine, now);
        let process = self.memory.as_ref().and_then(|_| identify(tgid));
        entry.process = process;
        let (series, uid) = (entry.series(), entry.pod_uid.clone());
        let nodes = self.discovery.node_namespaces();
        let Some(id) = self.registry.add(entry, nodes, &mut self.kernel)? else {
            // A client that named itself makes room for one that the API names.
            if let Some(other) = self.discovery.found_no_room(tgid) {
                for id in self.registry.of_process(other) {
                    self.withdraw(id)?;
                }
                self.executed.push(tgid);
            }
            return Ok(());
        };
        let (ledger, uid) = (&mut self.ledger, uid.as_deref());
        let known = process.and_then(|process| ledger.resume(&series, uid, process, now));
        let former = match known {
            Some(_) => None,
            None => ledger.begin(series, uid, now),
        };
        let ended = self.ended.0.clone();
        tokio::spawn(async move {
            if let Err(error) = client.process.ended().await {
                tracing::warn!(pid = tgid, %error, "A process cannot be waited for; its end is assumed.");
            }
            // The loop may have ended first.
            let _ = ended.send(id);
        });
        self.call(id, |_, outputs| {
            outputs.push(Output::Event(Event {
                at: now,
                kind: EventKind::Discovered,
            }));
        })?;
        if let Some(cause) = former {
            self.handle(id, now, Input::FollowsUnreached(cause))?;
        }
        if let Some(known) = known {
            self.handle(id, now, Input::Inherited(known.legacy))?;
            let half = self.kernel.half();
            let reading = known.reading.filter(|reading| Some(reading.half) == half);
            if let Some(reading) = reading {
                self.handle(id, now, Input::Counted(reading.counted))?;
            }
        }
        if !self.kernel.hooked("enumerate") && was_started_by(tgid, self.hooked) {
            self.handle(id, now, Input::EvidenceLost(UnknownReason::NotListed))?;
        }
        // The addresses come before the connections, so that the link judges each connection by
        // them. If they are not current, the last known ones still tell a proxy from other
        // processes.
        if let Some(last) = self.discovery.last_peer_addresses() {
            self.handle(id, now, Input::PeerAddresses(Some(last)))?;
        }
        self.hand_addresses(id)
    }

    /// The process of a link has ended, or its pod is terminating.
    pub(super) fn end(&mut self, id: LinkId) -> Result<(), KernelError> {
        let is_life = self.registry.get(id).is_some_and(Entry::is_known);
        self.close(id, is_life)
    }

    /// Ends the link of a process that turned out to be no client of this pod: it was no life of
    /// the pod's client.
    fn withdraw(&mut self, id: LinkId) -> Result<(), KernelError> {
        self.close(id, false)
    }

    /// Ends a link. With `is_life`, the next life of its pod learns whether this one was ever
    /// reachable.
    fn close(&mut self, id: LinkId, is_life: bool) -> Result<(), KernelError> {
        self.hand_last(id)?;
        let now = clock::now();
        self.handle(id, now, Input::ProcessEnded)?;
        if let Some(entry) = self.registry.get(id) {
            let unreached = entry.machine.never_reachable().filter(|_| is_life);
            let retransmits = self.kernel.source_totals(entry.source)?.retransmits;
            let counted = snapshot::of_process(entry, retransmits, now).total;
            let uid = entry.pod_uid.as_deref();
            let series = entry.series();
            self.ledger.end(&series, uid, &counted, unreached, now);
            if self.memory.is_some() {
                self.unsaved.pods.insert(series);
            }
            self.release(entry.source.tgid);
        }
        let nodes = self.discovery.node_namespaces();
        self.registry.remove(id, nodes, &mut self.kernel)
    }

    /// A process is no longer a client: inspects those that waited for its name again.
    fn release(&mut self, tgid: u32) {
        let behind = self.discovery.release(tgid);
        self.executed.extend(behind);
    }
}

/// Logs that a pod is not observed, or is observed again.
fn log_absence(news: &AbsenceNews, now: Timestamp) {
    match news {
        AbsenceNews::Unobserved(pod) => tracing::warn!(
            peer = pod.peer,
            k8s.namespace.name = pod.namespace,
            k8s.pod.name = pod.pod,
            reason = pod.reason.name(),
            "{} runs here and is not observed, so nothing is known of its link: {}.",
            pod.pod,
            pod.reason.explain(&pod.process),
        ),
        AbsenceNews::Over(pod) => tracing::info!(
            peer = pod.peer,
            k8s.namespace.name = pod.namespace,
            k8s.pod.name = pod.pod,
            unobserved_s = now.saturating_since(pod.since).as_secs_f64(),
            "{} is observed, or runs here no longer.",
            pod.pod,
        ),
    }
}

/// How many executed processes are inspected between two reads of the ring. Each takes about 0.1 ms,
/// so a loss is known within the 50 ms that it may take. A node does not start more at once by itself.
const EXECUTED_AT_ONCE: usize = 64;
/// How many executed processes may wait for that; a walk of `/proc` then finds those that still run.
/// More than the ring leaves room for, and little memory.
const MOST_EXECUTED: usize = 1024;
/// How long to wait for the Kubernetes API to list the pods before processes are inspected without
/// it. Its first answer takes well under a second, and an activator should have its link before its
/// start-up grace of 5 s ends.
const API_PATIENCE: Duration = Duration::from_secs(3);
