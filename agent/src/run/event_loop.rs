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
//! - the earliest deadline of a link, a log, a reconciliation or discovery,
//! - the request to stop.
//!
//! Whatever woke it, it then does everything that is due ([`EventLoop::process_due`]), in an order
//! that matters.

mod clients;
mod losses;
pub(super) mod succession;

use std::{future::Future, sync::Arc, time::Duration};

use statlink_ebpf::KTHREADD;
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
    unsaved::Unsaved,
};
use crate::{
    clock,
    discovery::{BootTicks, Discovery, Unseen, kubernetes::WatchEvent},
    kernel::{self, Kernel, KernelError, LISTING_SETTLES, Look},
    link::{ConnectionId, Input, Output},
    memory::{Left, Memory},
    snapshot::{Purpose, Snapshot, SnapshotRequest},
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
    started: Timestamp,
    /// When the hooks were in place: what was started later has no connection from before them.
    hooked: BootTicks,
    /// Processes to be inspected: those that were just executed, above all.
    executed: Vec<u32>,
    /// Why processes could not be inspected.
    unseen: Unseen,
    /// A predecessor's clients are still to be found, and the rings are not read.
    waits: bool,
    /// An execution may have gone unseen: `/proc` is to be walked, once a second at most.
    scan_at_once: bool,
    /// When it was walked last.
    scanned: Timestamp,
    /// When to look next for events that hooks missed, where they often do.
    missed_look: Timestamp,
    /// Empty between two calls of a link: kept for its memory.
    outputs: Vec<Output>,
    /// Where a successor finds what is known; `None` to leave it nothing.
    memory: Option<Arc<Memory>>,
    unsaved: Unsaved,
}

impl EventLoop {
    /// A loop without a link.
    pub(super) fn new(kernel: Kernel, discovery: Discovery, publisher: Publisher) -> Self {
        let awaits_clients = kernel.awaits_clients();
        Self {
            kernel,
            discovery,
            registry: Registry::default(),
            ledger: Ledger::default(),
            reconciler: Reconciler::default(),
            publisher,
            tally: RecordTally::default(),
            ended: mpsc::unbounded_channel(),
            started: clock::now(),
            hooked: BootTicks::now(),
            executed: Vec::new(),
            unseen: Unseen::default(),
            waits: awaits_clients,
            scan_at_once: false,
            scanned: Timestamp::from_nanos(0),
            missed_look: clock::now(),
            outputs: Vec::new(),
            memory: None,
            unsaved: Unsaved::default(),
        }
    }

    /// Goes on with what the agent before this one `left`, and leaves what is known in `memory`.
    pub(super) fn with_memory(mut self, memory: Arc<Memory>, left: Left) -> Self {
        self.take_over(left);
        self.memory = Some(memory);
        self
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
                Some(id) = self.ended.1.recv(), if !self.waits => {
                    self.drain()?;
                    self.end(id)?;
                }
                Some(request) = requests.recv() => {
                    self.process_due()?;
                    let snapshot = self.snapshot(request.purpose)?;
                    self.give(snapshot, request.reply);
                }
                Some(event) = watch_events.recv() => {
                    self.drain()?;
                    self.apply(event)?;
                }
                _ = rescan.tick() => {
                    self.check_missed_events();
                    self.kernel.sweep()?;
                    match self.waits_for_pods() {
                        None => self.scan()?,
                        Some(patience) => rescan.reset_after(patience),
                    }
                }
                read = self.reconciler.files_read() => read?,
                () = sleep_until(wake) => {}
            }
            self.process_due()?;
            if std::mem::take(&mut self.scan_at_once) {
                let next = self.scanned + RESCAN;
                rescan.reset_after(next.saturating_since(clock::now()));
            }
        }
    }

    /// When the loop is to wake by itself.
    fn wake_at(&self) -> Instant {
        let deadlines = [
            self.registry.next_deadline(),
            self.reconciler.next_deadline(&self.registry),
            self.discovery.next_deadline(),
            self.memory.as_ref().and_then(|_| self.unsaved.due()),
        ];
        if !self.executed.is_empty() {
            return Instant::now();
        }
        if self.waits {
            // What they are owed has to wait; how soon they are found nobody says. Once they are, nobody
            // else wakes the loop: the kernel does that for a reader who has read all.
            let over = !self.kernel.awaits_clients();
            return Instant::now() + if over { Duration::ZERO } else { AWAITED_LOOK };
        }
        let earliest = deadlines.into_iter().flatten().min();
        let wait = earliest.map_or(LONG, |at| at.saturating_since(clock::now()));
        Instant::now() + wait
    }

    /// Everything that is due: records first, then the ends of processes, which excuse what they
    /// closed, and last the deadlines that both may have moved.
    fn process_due(&mut self) -> Result<(), KernelError> {
        // Asked once: whoever is found in between has its records read in the next round.
        self.waits = self.kernel.awaits_clients();
        self.drain()?;
        // Its records come before a client's end.
        while !self.waits
            && let Ok(id) = self.ended.1.try_recv()
        {
            self.end(id)?;
        }
        self.inspect_executed()?;
        self.discover_due()?;
        let lost = self
            .reconciler
            .check_losses(&self.kernel, &mut self.registry)?;
        self.scan_at_once |= lost.executions;
        let now = clock::now();
        if self.kernel.is_preemptible() && self.missed_look <= now {
            self.check_missed_events();
        }
        self.check_room(lost.connections, now)?;
        self.reconcile()?;
        let now = clock::now();
        let due = if self.waits {
            // The records come first.
            Vec::new()
        } else {
            self.registry.due(now)
        };
        for id in due {
            self.call(id, |entry, outputs| {
                entry.machine.on_deadline(now, outputs);
            })?;
        }
        for (_, entry) in self.registry.iter_mut() {
            entry.publication.log_due(&entry.name, now);
        }
        self.remember_due()
    }

    /// The last work: what no record told is reconciled, so that the last export has it.
    async fn finish(mut self) -> Result<Snapshot, KernelError> {
        self.process_due()?;
        self.reconciler
            .begin_last(&self.kernel, &mut self.registry, clock::now())?;
        self.reconcile()?;
        sleep(LISTING_SETTLES).await;
        self.process_due()?;
        let last = self.snapshot(Purpose::Export)?;
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
        if self.waits {
            return Ok(());
        }
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
        if self.waits {
            return Ok(());
        }
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
            if let Some(entry) = self.registry.get_mut(id) {
                let now = clock::now();
                let news = entry.completeness.pass_ends(inventory.refused, now);
                if let Some(news) = news {
                    self.handle(id, now, news)?;
                }
            }
        }
        Ok(())
    }

    /// Gives one link one input, and performs what it decides.
    fn handle(&mut self, id: LinkId, at: Timestamp, input: Input) -> Result<(), KernelError> {
        self.check_addresses(&input);
        let ended = if let Input::Ended {
            connection,
            phase,
            how,
            ..
        } = &input
        {
            Some((*connection, *phase, *how))
        } else {
            None
        };
        self.call(id, |entry, outputs| {
            entry.machine.handle(at, input, outputs);
            let Some((connection, phase, how)) = ended else {
                return;
            };
            entry.owed.recorded(phase, how);
            if let Some(news) = entry.bypass.ended(connection) {
                entry.machine.handle(at, news, outputs);
            }
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
        let is_saved = self.memory.is_some();
        let errors = |entry: &Entry| is_saved.then(|| entry.machine.counts().total_errors());
        let before = errors(entry);
        let outputs = &mut self.outputs;
        call(entry, outputs);
        let mut is_urgent = false;
        // A sample's answer may lead to further outputs, never to a sample of the same instant.
        let mut next = 0;
        while let Some(output) = outputs.get(next).cloned() {
            next += 1;
            is_urgent |= !matches!(output, Output::Sample(_));
            match output {
                Output::Sample(connection) => {
                    sample(&mut self.kernel, entry, connection, outputs)?;
                }
                Output::Event(event) => {
                    let Entry {
                        name, publication, ..
                    } = &mut *entry;
                    self.publisher.publish(name, publication, event);
                }
                Output::OutageGoesOn => self.publisher.export_soon(),
            }
        }
        outputs.clear();
        if is_saved {
            // Not every error is told as an event.
            self.unsaved
                .called(id, is_urgent || errors(entry) != before);
        }
        Ok(())
    }
}

/// Looks at a connection of a link, and gives it the answer.
fn sample(
    kernel: &mut Kernel,
    entry: &mut Entry,
    connection: ConnectionId,
    outputs: &mut Vec<Output>,
) -> Result<(), KernelError> {
    let Look { sample, bypassed } = kernel.look(connection)?;
    let now = clock::now();
    if let Some(news) = entry.bypass.looked(connection, bypassed) {
        entry.machine.handle(now, news, outputs);
    }
    // What TCP says of a connection that is bypassed is no evidence.
    if !bypassed {
        let input = Input::Sampled { connection, sample };
        entry.machine.handle(now, input, outputs);
    }
    Ok(())
}

/// What is shown.
impl EventLoop {
    /// Everything at this instant. Live connections are sampled first, so that what depends on
    /// them is fresh.
    fn snapshot(&mut self, purpose: Purpose) -> Result<Snapshot, KernelError> {
        let ids = self.registry.ids();
        let mut processes = Vec::with_capacity(ids.len());
        for id in ids {
            self.call(id, |entry, outputs| {
                outputs.extend(entry.machine.live().into_iter().map(Output::Sample));
            })?;
            if let Some(entry) = self.registry.get(id) {
                let retransmits = self.kernel.source_totals(entry.source)?.retransmits;
                processes.push(snapshot::of_process(entry, retransmits, clock::now()));
            }
        }
        let discovery = &self.discovery;
        self.ledger
            .close_old(clock::now(), |uid| discovery.lists_pod(uid));
        self.remember_all()?;
        let discovery = &self.discovery;
        let agent = snapshot::of_agent(
            &self.kernel,
            &self.reconciler,
            &mut self.tally,
            discovery,
            purpose,
            clock::now(),
        )?;
        Ok(Snapshot {
            links: snapshot::of_pods(processes, &self.ledger),
            departed: self.ledger.departed(),
            unobserved: discovery
                .unobserved()
                .map(|pod| snapshot::of_unobserved(pod, clock::now()))
                .collect(),
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
/// How often to look whether a predecessor's clients have been found: a loss is to be known within 50 ms.
const AWAITED_LOOK: Duration = Duration::from_millis(20);
/// Nothing is due: any length will do.
const LONG: Duration = Duration::from_secs(3600);
