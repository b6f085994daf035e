//! The loop: kernel records, processes and deadlines in, outputs performed.
//!
//! Nothing here decides about a link: [`crate::link`] does. This is the shell that feeds it in the
//! order its contract asks for, and does what it says.

mod entry;
pub mod run;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    sync::Arc,
    time::Duration,
};

use statlink_ebpf::{Record, RecordKind, Source};
use tokio::{
    sync::{Notify, broadcast, mpsc},
    time::{Instant, sleep_until},
};

use self::entry::Entry;
use crate::{
    clock::{self, WallTime},
    discovery::{Client, Discovery, kubernetes::WatchEvent},
    kernel::{Kernel, KernelError},
    link::{self, Event, Input, Output},
    report::{EventKind, LinkEvent, LinkName},
    snapshot::{AgentSnapshot, Snapshot, SnapshotRequest},
    telemetry::Telemetry,
    time::Timestamp,
    warn_once::WarnOnce,
};

/// The running agent.
pub struct Agent {
    kernel: Kernel,
    discovery: Discovery,
    telemetry: Telemetry,
    reports: broadcast::Sender<LinkEvent>,
    transition: Arc<Notify>,
    entries: BTreeMap<u64, Entry>,
    by_source: HashMap<Source, u64>,
    next_id: u64,
    ended: (mpsc::UnboundedSender<u64>, mpsc::UnboundedReceiver<u64>),
    /// Processes just executed, to be looked at.
    executed: Vec<u32>,
    /// Why processes could not be inspected.
    unseen: WarnOnce,
    tally: Tally,
    outputs: Vec<Output>,
}

/// What the agent counts about its own reading.
#[derive(Debug, Default)]
struct Tally {
    attempted: u64,
    established: u64,
    timeouts: u64,
    ended: u64,
    executed: u64,
    looked_up: u64,
    malformed: u64,
    last: Option<Timestamp>,
    /// Losses at the last look, all reasons.
    lost: u64,
    /// Events that each hook had missed at the last look.
    misses: Vec<(&'static str, u64)>,
    /// The newest reconciliation of all links.
    resynced: Timestamp,
    /// Whether there was a client, or a pod's hops, too many.
    full: bool,
    /// The most bytes found waiting in the ring since the last snapshot.
    backlog: u64,
}

impl Agent {
    /// An agent that knows no activator yet.
    pub fn new(
        kernel: Kernel,
        discovery: Discovery,
        telemetry: Telemetry,
        reports: broadcast::Sender<LinkEvent>,
        transition: Arc<Notify>,
    ) -> Self {
        Self {
            kernel,
            discovery,
            telemetry,
            reports,
            transition,
            entries: BTreeMap::new(),
            by_source: HashMap::new(),
            next_id: 1,
            ended: mpsc::unbounded_channel(),
            executed: Vec::new(),
            unseen: WarnOnce::default(),
            tally: Tally::default(),
            outputs: Vec::new(),
        }
    }

    /// Runs until `shutdown` is ready; then gives the last snapshot.
    pub(crate) async fn run(
        mut self,
        mut requests: mpsc::Receiver<SnapshotRequest>,
        mut events: mpsc::Receiver<WatchEvent>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Snapshot, KernelError> {
        tokio::pin!(shutdown);
        let host = self.kernel.network_namespace(statlink_ebpf::KTHREADD)?;
        self.discovery.node_namespaces_mut().set_host(host);
        let started = clock::now();
        // With the hook, a new activator is heard of at once, and the walk is only a safety net.
        let pace = if self.kernel.hooked("sched_process_exec") {
            RESCAN_HOOKED
        } else {
            RESCAN
        };
        let mut rescan = tokio::time::interval(pace);
        loop {
            let wake = self
                .next_deadline()
                .map(|deadline| Instant::now() + deadline.saturating_since(clock::now()));
            let far = Instant::now() + Duration::from_secs(3600);
            tokio::select! {
                () = &mut shutdown => {
                    self.turn()?;
                    let last = self.snapshot()?;
                    for entry in self.entries.values_mut() {
                        entry.log_rest(clock::now());
                    }
                    return Ok(last);
                }
                ready = self.kernel.readable() => ready.map_err(KernelError::Ring)?,
                Some(id) = self.ended.1.recv() => {
                    self.drain()?;
                    self.end(id)?;
                }
                Some(reply) = requests.recv() => {
                    self.turn()?;
                    // Who asked may have given up waiting.
                    let _ = reply.send(Arc::new(self.snapshot()?));
                }
                Some(event) = events.recv() => {
                    self.drain()?;
                    self.hear(event)?;
                }
                _ = rescan.tick() => {
                    self.mind_misses();
                    let waited = clock::now().saturating_since(started);
                    if self.discovery.knows_pods() || waited >= API_PATIENCE {
                        self.scan()?;
                    } else {
                        // Who is ending already is for the API to say: it gets a moment to do so.
                        rescan.reset_after(API_PATIENCE.saturating_sub(waited));
                    }
                }
                () = sleep_until(wake.unwrap_or(far)) => {}
            }
            self.turn()?;
        }
    }

    /// Everything that is due: records first, then the ends of processes, which excuse what they
    /// closed, and then the deadlines that both may have moved.
    fn turn(&mut self) -> Result<(), KernelError> {
        self.drain()?;
        while let Ok(id) = self.ended.1.try_recv() {
            self.end(id)?;
        }
        for pid in std::mem::take(&mut self.executed) {
            self.inspect(pid)?;
        }
        let lost = self.kernel.losses()?.iter().map(|(_, count)| count).sum();
        if lost != self.tally.lost {
            self.tally.lost = lost;
            self.resync_all();
        }
        self.resync()?;
        let now = clock::now();
        let due: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.link.next_deadline().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let mut outputs = std::mem::take(&mut self.outputs);
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.link.on_deadline(now, &mut outputs);
            }
            self.perform(id, outputs)?;
        }
        for entry in self.entries.values_mut() {
            entry.log_due(now);
        }
        Ok(())
    }

    /// Reads the ring, and tells each link what concerns it.
    fn drain(&mut self) -> Result<(), KernelError> {
        let mut records = Vec::new();
        let tally = &mut self.tally;
        self.kernel.drain(|record| match record {
            Some(record) => records.push(record),
            None => tally.malformed += 1,
        });
        let bytes = (records.len() * (size_of::<Record>() + RING_HEADER)) as u64;
        tally.backlog = tally.backlog.max(bytes);
        for record in &records {
            self.route(record)?;
        }
        Ok(())
    }

    fn route(&mut self, record: &Record) -> Result<(), KernelError> {
        let at = Timestamp::from_nanos(record.time_ns);
        self.tally.last = Some(at);
        let Some(kind) = RecordKind::from_raw(record.kind) else {
            self.tally.malformed += 1;
            return Ok(());
        };
        match kind {
            RecordKind::Attempted => self.tally.attempted += 1,
            RecordKind::Established => self.tally.established += 1,
            RecordKind::RetransmissionTimeout => self.tally.timeouts += 1,
            RecordKind::Ended => self.tally.ended += 1,
            RecordKind::LookedUp => self.tally.looked_up += 1,
            RecordKind::Executed => {
                self.tally.executed += 1;
                self.executed.push(record.tgid);
                return Ok(());
            }
        }
        let source = Source {
            netns: record.netns,
            tgid: record.tgid,
        };
        let Some(&id) = self.by_source.get(&source) else {
            return self.overhear(at, record, kind);
        };
        let heard = self.kernel.heard(at, record.heard_ago);
        let Some(input) = entry::input(record, kind, heard) else {
            self.tally.malformed += 1;
            return Ok(());
        };
        self.tell(id, at, input)
    }

    /// A record of a source that is nobody's: a hop's, or of a process that ended a moment ago.
    fn overhear(
        &mut self,
        at: Timestamp,
        record: &Record,
        kind: RecordKind,
    ) -> Result<(), KernelError> {
        let Some(input) = entry::proxy(record, kind) else {
            return Ok(());
        };
        for id in self.overhearing(record.netns) {
            self.tell(id, at, input.clone())?;
        }
        Ok(())
    }

    /// The links whose hops are in this network namespace.
    fn overhearing(&self, netns: u32) -> Vec<u64> {
        if !self.discovery.node_namespaces().is_pods_own(netns) {
            return Vec::new();
        }
        let entries = self.entries.iter();
        entries
            .filter(|(_, entry)| entry.source.netns == netns)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Tells one link one input, and performs what it decides.
    fn tell(&mut self, id: u64, at: Timestamp, input: Input) -> Result<(), KernelError> {
        let mut outputs = std::mem::take(&mut self.outputs);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.link.handle(at, input, &mut outputs);
        }
        self.perform(id, outputs)
    }

    fn perform(&mut self, id: u64, mut outputs: Vec<Output>) -> Result<(), KernelError> {
        // A sample's answer may lead to further outputs, never to a sample of the same instant.
        let mut next = 0;
        while let Some(output) = outputs.get(next).cloned() {
            next += 1;
            let Some(entry) = self.entries.get_mut(&id) else {
                break;
            };
            match output {
                Output::Sample(connection) => {
                    let sample = self.kernel.sample(connection)?;
                    let input = Input::Sampled { connection, sample };
                    entry.link.handle(clock::now(), input, &mut outputs);
                }
                Output::Event(event) => self.publish(id, event),
            }
        }
        outputs.clear();
        self.outputs = outputs;
        Ok(())
    }

    fn publish(&mut self, id: u64, event: Event) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        match &event.kind {
            link::EventKind::Connected {
                duration: Some(duration),
                ..
            } => self
                .telemetry
                .record_connect(&entry.name.peer, *duration, None),
            link::EventKind::ConnectFailed(attempt) => {
                if let Some(duration) = attempt.duration {
                    self.telemetry
                        .record_connect(&entry.name.peer, duration, Some(attempt.cause));
                }
            }
            link::EventKind::Reachable {
                outage: Some(outage),
                ..
            } => self
                .telemetry
                .record_outage(&entry.name.peer, outage.duration, outage.cause),
            link::EventKind::Connected { duration: None, .. }
            | link::EventKind::Reachable { outage: None, .. }
            | link::EventKind::Discovered
            | link::EventKind::Disconnected { .. }
            | link::EventKind::Unreachable { .. }
            | link::EventKind::Idle
            | link::EventKind::Ended => {}
        }
        let Event { at, kind } = event.map_time(clock::wall);
        if entry.is_news(&kind) {
            self.transition.notify_one();
        }
        self.report(id, at, kind);
    }

    fn report(&mut self, id: u64, at: WallTime, kind: EventKind) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let known_at = clock::now();
        entry.log(known_at, &kind);
        let event = LinkEvent {
            at,
            known_at: clock::wall(known_at),
            link: entry.name.clone(),
            kind,
        };
        // Nobody may be listening.
        let _ = self.reports.send(event);
    }

    /// Looks at every process for clients not known yet.
    fn scan(&mut self) -> Result<(), KernelError> {
        let found = self.discovery.scan();
        let mut unseen = BTreeSet::new();
        for client in found.unwrap_or_else(|error| vec![Err(error)]) {
            match client {
                Ok(client) => self.add(client)?,
                Err(error) => {
                    let error = error.to_string();
                    self.warn_unseen(&error);
                    unseen.insert(error);
                }
            }
        }
        self.unseen.retain(&unseen);
        Ok(())
    }

    fn inspect(&mut self, pid: u32) -> Result<(), KernelError> {
        match self.discovery.inspect(pid) {
            Ok(Some(client)) => self.add(client),
            Ok(None) => Ok(()),
            Err(error) => {
                self.warn_unseen(&error.to_string());
                Ok(())
            }
        }
    }

    fn warn_unseen(&mut self, error: &str) {
        if self.unseen.failed(std::time::Instant::now(), error) {
            tracing::warn!(error, "An activator may go unseen.");
        }
    }

    /// The Kubernetes API told something.
    fn hear(&mut self, event: WatchEvent) -> Result<(), KernelError> {
        let update = self.discovery.apply(event);
        for uid in &update.ended {
            let of_pod = |entry: &Entry| entry.pod_uid.as_ref() == Some(uid);
            let ids: Vec<u64> = self
                .entries
                .iter()
                .filter(|(_, entry)| of_pod(entry))
                .map(|(id, _)| *id)
                .collect();
            for id in ids {
                self.end(id)?;
            }
        }
        if update.addresses {
            let ids: Vec<u64> = self.entries.keys().copied().collect();
            for id in ids {
                self.tell_addresses(id)?;
            }
        }
        if update.rescan && self.discovery.knows_pods() {
            self.scan()?;
        }
        Ok(())
    }

    fn tell_addresses(&mut self, id: u64) -> Result<(), KernelError> {
        let addresses = self.discovery.peer_addresses();
        self.tell(id, clock::now(), Input::PeerAddresses(addresses))
    }

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
        if self.by_source.contains_key(&source) {
            return Ok(());
        }
        if !self.ask(source)? {
            return Ok(());
        }
        if client.host_network {
            self.discovery.node_namespaces_mut().add_shared(netns);
        }
        if self.discovery.node_namespaces().is_pods_own(netns) {
            self.ask(Source::everyone(source.netns))?;
        }
        let now = clock::now();
        let id = self.next_id;
        self.next_id += 1;
        let name = LinkName {
            peer: client.kind.peer.into_owned(),
            namespace: client.namespace,
            pod: client.pod,
            pid: source.tgid,
        };
        let machine = client.kind.shape.discovered(now);
        self.by_source.insert(source, id);
        self.entries
            .insert(id, Entry::new(name, source, client.pod_uid, machine, now));
        let ended = self.ended.0.clone();
        tokio::spawn(async move {
            if let Err(error) = client.process.ended().await {
                tracing::warn!(pid = source.tgid, %error, "A process cannot be waited for; its end is assumed.");
            }
            // The agent may have gone first.
            let _ = ended.send(id);
        });
        self.transition.notify_one();
        self.report(id, clock::wall(now), EventKind::Discovered);
        // Before its connections, so that none is taken for older than the addresses.
        self.tell_addresses(id)
    }

    /// Whether the kernel half has room for it.
    fn ask(&mut self, source: Source) -> Result<bool, KernelError> {
        let asked = self.kernel.ask(source)?;
        if !asked && !self.tally.full {
            self.tally.full = true;
            tracing::warn!(
                pid = source.tgid,
                "More activators run here than can be watched: some have no link, or no proxy that explains."
            );
        }
        Ok(asked)
    }

    /// The process of a link has ended, or its pod is terminating.
    fn end(&mut self, id: u64) -> Result<(), KernelError> {
        self.tell(id, clock::now(), Input::ProcessEnded)?;
        if let Some(entry) = self.entries.remove(&id) {
            self.by_source.remove(&entry.source);
            self.kernel.dismiss(entry.source)?;
            if self.overhearing(entry.source.netns).is_empty() {
                self.kernel.dismiss(Source::everyone(entry.source.netns))?;
            }
        }
        Ok(())
    }

    /// What a hook missed was some socket's: most likely nobody's who is watched, but that is not
    /// known.
    fn mind_misses(&mut self) {
        let misses = self.kernel.misses();
        let total = |misses: &[(_, u64)]| misses.iter().map(|(_, count)| count).sum::<u64>();
        if total(&misses) != total(&self.tally.misses) {
            self.resync_all();
        }
        self.tally.misses = misses;
    }

    /// At once; after another one, not before [`RESYNC_PACE`]: it looks at every open file.
    fn resync_all(&mut self) {
        let at = clock::now().max(self.tally.resynced + RESYNC_PACE);
        self.tally.resynced = at;
        for entry in self.entries.values_mut() {
            entry.resync_at(at);
        }
    }

    /// Hands each link that is due for it what the kernel holds.
    fn resync(&mut self) -> Result<(), KernelError> {
        let now = clock::now();
        let due: Vec<(u64, Source)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.resync_due(now))
            .map(|(id, entry)| (*id, entry.source))
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        self.kernel.enumerate()?;
        for (id, source) in due {
            let Some(inventory) = self.kernel.inventory(source, clock::now())? else {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.resync_at(now + RESYNC_AGAIN);
                }
                continue;
            };
            // What was told while the kernel was looked at comes first.
            self.drain()?;
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            let input = entry.reconcile(&inventory);
            self.tell(id, inventory.at, input)?;
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.entries.values().filter_map(Entry::next_deadline).min()
    }

    /// Everything at this instant. Live connections are looked at first, so that what depends on
    /// them is fresh.
    fn snapshot(&mut self) -> Result<Snapshot, KernelError> {
        let ids: Vec<u64> = self.entries.keys().copied().collect();
        let mut links = Vec::with_capacity(ids.len());
        for id in ids {
            let live = self.entries.get(&id).map(|entry| entry.link.live());
            for connection in live.unwrap_or_default() {
                let sample = self.kernel.sample(connection)?;
                self.tell(id, clock::now(), Input::Sampled { connection, sample })?;
            }
            if let Some(entry) = self.entries.get(&id) {
                let totals = self.kernel.source_totals(entry.source)?;
                links.push(entry.snapshot(id, clock::now(), totals.retransmits));
            }
        }
        let hooks = self.kernel.hooks();
        let tally = &mut self.tally;
        let backlog = std::mem::take(&mut tally.backlog);
        let agent = AgentSnapshot {
            hooks: hooks
                .iter()
                .map(|state| (state.hook.name, state.missing.is_none()))
                .collect(),
            misses: tally.misses.clone(),
            records: vec![
                ("attempted", tally.attempted),
                ("established", tally.established),
                ("retransmission_timeout", tally.timeouts),
                ("ended", tally.ended),
                ("executed", tally.executed),
                ("looked_up", tally.looked_up),
            ],
            lost: self
                .kernel
                .losses()?
                .into_iter()
                .chain([("malformed", tally.malformed)])
                .collect(),
            ring: Some((backlog, statlink_ebpf::RING_BYTES)),
            synced: self.discovery.is_synced(),
            last_record: tally.last.map(|last| clock::now().saturating_since(last)),
        };
        Ok(Snapshot { links, agent })
    }
}

/// How often `/proc` is walked without the execution hook, and with it.
const RESCAN: Duration = Duration::from_secs(1);
const RESCAN_HOOKED: Duration = Duration::from_secs(30);
/// How long the Kubernetes API may take before processes are looked at without it.
const API_PATIENCE: Duration = Duration::from_secs(3);
/// When a coherent look was not to be had.
const RESYNC_AGAIN: Duration = Duration::from_millis(100);
/// Between two reconciliations of all links. Far less than the second after which a link takes a
/// connection that is gone for ended: its end would be counted once more when it turns up.
const RESYNC_PACE: Duration = Duration::from_millis(100);
/// `BPF_RINGBUF_HDR_SZ`, `include/uapi/linux/bpf.h`.
const RING_HEADER: usize = 8;
