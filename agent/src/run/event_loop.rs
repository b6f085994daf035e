//! The loop: what wakes it, and in which order it works.
//!
//! It is woken by
//!
//! - the kernel half: a record that cannot wait is in the ring,
//! - the end of a client's process,
//! - the Kubernetes API: something was watched to change,
//! - a request for a snapshot: an export is due, or `statlink status` asks,
//! - the timer of the walk through `/proc`,
//! - a reconciliation whose pass over open files is complete,
//! - the earliest deadline of a link, a log or a reconciliation,
//! - the request to stop.
//!
//! Whatever woke it, it then does everything that is due ([`EventLoop::process_due`]), in an order
//! that matters.

use std::{future::Future, sync::Arc, time::Duration};

use statlink_ebpf::{KTHREADD, Source};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::{
    ledger::Ledger,
    publish::Publisher,
    reconcile::Reconciler,
    registry::{Entry, LinkId, Registry},
    routing::{RecordTally, Route, route},
    snapshot,
};
use crate::{
    clock,
    discovery::{Client, Discovery, DiscoveryError, Unseen, kubernetes::WatchEvent},
    kernel::{self, Kernel, KernelError, LISTING_SETTLES},
    link::{Event, EventKind, Input, Output},
    link_event::LinkName,
    snapshot::{Snapshot, SnapshotRequest},
    time::Timestamp,
};

/// Everything that the loop works on.
pub(super) struct EventLoop {
    kernel: Kernel,
    discovery: Discovery,
    registry: Registry,
    ledger: Ledger,
    reconciler: Reconciler,
    publisher: Publisher,
    tally: RecordTally,
    /// Links whose process has ended: each is waited for by a task of its own.
    ended: (
        mpsc::UnboundedSender<LinkId>,
        mpsc::UnboundedReceiver<LinkId>,
    ),
    /// Processes just executed, to be inspected.
    executed: Vec<u32>,
    /// Why processes could not be inspected.
    unseen: Unseen,
    /// Empty between two calls of a link: kept for its memory.
    outputs: Vec<Output>,
}

impl EventLoop {
    /// A loop without a link.
    pub(super) fn new(kernel: Kernel, discovery: Discovery, publisher: Publisher) -> Self {
        Self {
            kernel,
            discovery,
            registry: Registry::default(),
            ledger: Ledger::default(),
            reconciler: Reconciler::default(),
            publisher,
            tally: RecordTally::default(),
            ended: mpsc::unbounded_channel(),
            executed: Vec::new(),
            unseen: Unseen::default(),
            outputs: Vec::new(),
        }
    }

    /// Runs until `shutdown` is ready; then gives the last snapshot.
    ///
    /// # Errors
    ///
    /// Fails if the kernel half can no longer be read.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<SnapshotRequest>,
        mut watch_events: mpsc::Receiver<WatchEvent>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Snapshot, KernelError> {
        tokio::pin!(shutdown);
        let host = self.kernel.network_namespace(KTHREADD)?;
        self.discovery.node_namespaces_mut().set_host(host);
        let started = clock::now();
        let mut rescan = tokio::time::interval(if self.kernel.hooked("sched_process_exec") {
            RESCAN_HOOKED
        } else {
            RESCAN
        });
        loop {
            let wake = self.wake_at();
            tokio::select! {
                () = &mut shutdown => return self.finish().await,
                ready = self.kernel.readable() => ready.map_err(KernelError::Ring)?,
                Some(id) = self.ended.1.recv() => {
                    self.drain()?;
                    self.end(id)?;
                }
                Some(reply) = requests.recv() => {
                    self.process_due()?;
                    // Whoever asked may have given up waiting.
                    let _ = reply.send(Arc::new(self.snapshot()?));
                }
                Some(event) = watch_events.recv() => {
                    self.drain()?;
                    self.apply(event)?;
                }
                _ = rescan.tick() => {
                    self.reconciler.check_missed_events(&self.kernel, &mut self.registry);
                    let waited = clock::now().saturating_since(started);
                    if self.discovery.knows_pods() || waited >= API_PATIENCE {
                        self.scan()?;
                    } else {
                        // Only the API knows which pods are terminating: it gets a moment to say
                        // so before they are taken for clients.
                        rescan.reset_after(API_PATIENCE.saturating_sub(waited));
                    }
                }
                read = self.reconciler.files_read() => read?,
                () = sleep_until(wake) => {}
            }
            self.process_due()?;
        }
    }

    /// When the loop is to wake by itself.
    fn wake_at(&self) -> Instant {
        let deadlines = [
            self.registry.next_deadline(),
            self.reconciler.next_deadline(&self.registry),
        ];
        let earliest = deadlines.into_iter().flatten().min();
        let wait = earliest.map_or(LONG, |at| at.saturating_since(clock::now()));
        Instant::now() + wait
    }

    /// Everything that is due: records first, then the ends of processes, which excuse what they
    /// closed, and last the deadlines that both may have moved.
    fn process_due(&mut self) -> Result<(), KernelError> {
        self.drain()?;
        while let Ok(id) = self.ended.1.try_recv() {
            self.end(id)?;
        }
        for pid in std::mem::take(&mut self.executed) {
            self.inspect(pid)?;
        }
        self.reconciler
            .check_losses(&self.kernel, &mut self.registry)?;
        self.reconcile()?;
        let now = clock::now();
        for id in self.registry.due(now) {
            self.call(id, |entry, outputs| {
                entry.machine.on_deadline(now, outputs);
            })?;
        }
        for (_, entry) in self.registry.iter_mut() {
            entry.publication.log_due(&entry.name, now);
        }
        Ok(())
    }

    /// The last work: what no record told is reconciled, so that the last export has it.
    async fn finish(mut self) -> Result<Snapshot, KernelError> {
        self.process_due()?;
        self.reconciler
            .begin_last(&self.kernel, &mut self.registry, clock::now())?;
        self.reconcile()?;
        sleep(LISTING_SETTLES).await;
        self.process_due()?;
        let last = self.snapshot()?;
        for (_, entry) in self.registry.iter_mut() {
            entry.publication.log_rest(&entry.name, clock::now());
        }
        Ok(last)
    }
}

/// Records, and what links make of them.
impl EventLoop {
    /// Reads the ring, and gives each link what concerns it.
    fn drain(&mut self) -> Result<(), KernelError> {
        let mut records = Vec::new();
        let tally = &mut self.tally;
        self.kernel.drain(|record| match record {
            Some(record) => records.push(record),
            None => tally.count_malformed(),
        });
        self.tally.note_backlog(records.len());
        for record in &records {
            self.tally.count(record);
            let at = Timestamp::from_nanos(record.time_ns);
            let heard = kernel::heard(record.heard_ns);
            let nodes = self.discovery.node_namespaces();
            match route(record, heard, &self.registry, nodes) {
                Route::Executed(pid) => self.executed.push(pid),
                Route::Link(id, input) => self.handle(id, at, input)?,
                Route::Proxy(links, input) => {
                    for id in links {
                        self.handle(id, at, input.clone())?;
                    }
                }
                Route::Nobody => {}
                Route::Malformed => self.tally.count_malformed(),
            }
        }
        Ok(())
    }

    /// Gives the links what a complete pass found out.
    fn reconcile(&mut self) -> Result<(), KernelError> {
        let (kernel, registry) = (&mut self.kernel, &mut self.registry);
        let inventories = self.reconciler.advance(kernel, registry, clock::now())?;
        if inventories.is_empty() {
            return Ok(());
        }
        // Records that came while the kernel was looked at come first.
        self.drain()?;
        for (id, inventory) in inventories {
            if let Some(entry) = self.registry.get_mut(id) {
                let input = entry.owed.input(&inventory);
                self.handle(id, inventory.at, input)?;
            }
        }
        Ok(())
    }

    /// Gives one link one input, and performs what it decides.
    fn handle(&mut self, id: LinkId, at: Timestamp, input: Input) -> Result<(), KernelError> {
        self.call(id, |entry, outputs| {
            entry.machine.handle(at, input, outputs);
        })
    }

    /// Calls one link, and performs its outputs in their order.
    fn call(
        &mut self,
        id: LinkId,
        call: impl FnOnce(&mut Entry, &mut Vec<Output>),
    ) -> Result<(), KernelError> {
        let Some(entry) = self.registry.get_mut(id) else {
            return Ok(());
        };
        let outputs = &mut self.outputs;
        call(entry, outputs);
        // A sample's answer may lead to further outputs, never to a sample of the same instant.
        let mut next = 0;
        while let Some(output) = outputs.get(next).cloned() {
            next += 1;
            match output {
                Output::Sample(connection) => {
                    let sample = self.kernel.sample(connection)?;
                    let input = Input::Sampled { connection, sample };
                    entry.machine.handle(clock::now(), input, outputs);
                }
                Output::Event(event) => {
                    let Entry {
                        name, publication, ..
                    } = &mut *entry;
                    self.publisher.publish(name, publication, event);
                }
            }
        }
        outputs.clear();
        Ok(())
    }
}

/// Clients, as discovery finds them.
impl EventLoop {
    /// Looks at every process for clients not known yet.
    fn scan(&mut self) -> Result<(), KernelError> {
        let found = self.discovery.scan();
        for client in found.unwrap_or_else(|error| vec![Err(error)]) {
            match client {
                Ok(client) => self.add(client)?,
                Err(error) => self.warn_unseen(&error),
            }
        }
        Ok(())
    }

    fn inspect(&mut self, pid: u32) -> Result<(), KernelError> {
        match self.discovery.inspect(pid) {
            Ok(Some(client)) => self.add(client),
            Ok(None) => Ok(()),
            Err(error) => {
                self.warn_unseen(&error);
                Ok(())
            }
        }
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

    /// The Kubernetes API has said something.
    fn apply(&mut self, event: WatchEvent) -> Result<(), KernelError> {
        let update = self.discovery.apply(event);
        for uid in &update.ended {
            for id in self.registry.of_pod(uid) {
                self.end(id)?;
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

    fn hand_addresses(&mut self, id: LinkId) -> Result<(), KernelError> {
        let addresses = self.discovery.peer_addresses();
        self.handle(id, clock::now(), Input::PeerAddresses(addresses))
    }

    /// A client was found: it gets a link, if it has none yet.
    fn add(&mut self, client: Client) -> Result<(), KernelError> {
        let tgid = client.pid;
        let netns = match client.netns {
            Some(netns) => Some(netns),
            None => self.kernel.network_namespace(tgid)?,
        };
        let Some(netns) = netns else {
            tracing::debug!(tgid, "A client was gone before it was inspected.");
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
        let entry = Entry::new(name, source, client.pod_uid, machine, now);
        let (series, uid) = (entry.series(), entry.pod_uid.clone());
        let nodes = self.discovery.node_namespaces();
        let Some(id) = self.registry.add(entry, nodes, &mut self.kernel)? else {
            return Ok(());
        };
        let former = self.ledger.begin(series, uid.as_deref(), now);
        let ended = self.ended.0.clone();
        tokio::spawn(async move {
            if let Err(error) = client.process.ended().await {
                tracing::warn!(pid = tgid, %error, "A process cannot be waited for; its end is assumed.");
            }
            // The loop may have gone first.
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
        // Before its connections, so that none is taken for older than the addresses.
        self.hand_addresses(id)
    }

    /// The process of a link has ended, or its pod is terminating.
    fn end(&mut self, id: LinkId) -> Result<(), KernelError> {
        let now = clock::now();
        // Of one of which nobody could tell, nobody can tell that it never was.
        let is_known = |entry: &Entry| entry.machine.state().unknown_reason().is_none();
        let is_known = self.registry.get(id).is_some_and(is_known);
        self.handle(id, now, Input::ProcessEnded)?;
        if let Some(entry) = self.registry.get(id) {
            let unreached = entry.machine.never_reachable().filter(|_| is_known);
            let retransmits = self.kernel.source_totals(entry.source)?.retransmits;
            let counted = snapshot::of_process(entry, retransmits, now).total;
            self.ledger.end(&entry.series(), &counted, unreached, now);
        }
        let nodes = self.discovery.node_namespaces();
        self.registry.remove(id, nodes, &mut self.kernel)
    }

    /// Everything at this instant. Live connections are sampled first, so that what depends on
    /// them is fresh.
    fn snapshot(&mut self) -> Result<Snapshot, KernelError> {
        let ids = self.registry.ids();
        let mut processes = Vec::with_capacity(ids.len());
        for id in ids {
            let entry = self.registry.get(id);
            for connection in entry.map(|entry| entry.machine.live()).unwrap_or_default() {
                let sample = self.kernel.sample(connection)?;
                self.handle(id, clock::now(), Input::Sampled { connection, sample })?;
            }
            if let Some(entry) = self.registry.get(id) {
                let retransmits = self.kernel.source_totals(entry.source)?.retransmits;
                processes.push(snapshot::of_process(entry, retransmits, clock::now()));
            }
        }
        let discovery = &self.discovery;
        self.ledger
            .close_old(clock::now(), |uid| discovery.lists_pod(uid));
        let agent = snapshot::of_agent(
            &self.kernel,
            &self.reconciler,
            &mut self.tally,
            self.discovery.is_synced(),
            clock::now(),
        )?;
        Ok(Snapshot {
            links: snapshot::of_pods(processes, &self.ledger),
            departed: self.ledger.departed(),
            agent,
        })
    }
}

/// How often `/proc` is walked where executions are not reported: a new client is found well within
/// its start-up grace of 5 s. A walk of 10,000 processes takes some 20 ms of CPU time.
const RESCAN: Duration = Duration::from_secs(1);
/// The same where they are: a new client is inspected at once, and the walk only finds one whose
/// record was lost: it has its link half a minute late at most. A walk every 30 s costs less than a
/// thousandth of a CPU. The hooks' missed events are read as often.
const RESCAN_HOOKED: Duration = Duration::from_secs(30);
/// How long the Kubernetes API may take to list the pods before processes are inspected without
/// it. Its first answer takes well under a second; and an activator is to have its link before its
/// start-up grace of 5 s ends.
const API_PATIENCE: Duration = Duration::from_secs(3);
/// Nothing is due: any length will do.
const LONG: Duration = Duration::from_secs(3600);
