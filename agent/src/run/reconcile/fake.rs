//! A kernel half for tests, with its own clock. A test sets what it holds and sees how often it was
//! looked at.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use statlink_ebpf::{Connection, End, Phase, Place, Source};

use super::holdings::{Holdings, ReadFiles};
use crate::{
    kernel::{Ends, Inventory, KernelError, Listing, LossReason, SourceTotals},
    time::Timestamp,
};

/// What the kernel half holds.
pub(super) struct FakeKernel {
    pub(super) now: Timestamp,
    /// How long one walk of the map of connections takes.
    pub(super) walk: Duration,
    pub(super) open: BTreeMap<u64, Connection>,
    pub(super) totals: HashMap<Source, SourceTotals>,
    pub(super) losses: [(LossReason, u64); LossReason::ALL.len()],
    pub(super) missed_events: Vec<(&'static str, u64)>,
    /// The map of connections changes too fast for a walk to end.
    pub(super) restless: bool,
    /// The pass over the open files fails.
    pub(super) unreadable: bool,
    /// How often the map of connections was walked.
    pub(super) walks: usize,
    files_read: Arc<AtomicUsize>,
}

impl FakeKernel {
    /// A kernel half that holds nothing.
    pub(super) fn at(now: Timestamp) -> Self {
        Self {
            now,
            walk: Duration::ZERO,
            open: BTreeMap::new(),
            totals: HashMap::new(),
            losses: LossReason::ALL.map(|reason| (reason, 0)),
            missed_events: Vec::new(),
            restless: false,
            unreadable: false,
            walks: 0,
            files_read: Arc::default(),
        }
    }

    /// How often all open files were read.
    pub(super) fn files_read(&self) -> usize {
        self.files_read.load(Ordering::SeqCst)
    }

    /// A process opens a connection.
    pub(super) fn connect(&mut self, sock: u64, source: Source) {
        let connection = Connection {
            born_ns: self.now.as_nanos(),
            attempted_ns: self.now.as_nanos(),
            established_ns: self.now.as_nanos(),
            tgid: source.tgid,
            netns: source.netns,
            peer: [0; 16],
            peer_port: 8080,
            soft_errno: 0,
            retransmits: 0,
            phase: Phase::Established as u8,
            place: Place::Reserved as u8,
            reported_errno: 0,
            in_unkept_call: 0,
            _pad: [0; 3],
        };
        self.open.insert(sock, connection);
    }

    /// The first step of an end: the connection is removed.
    pub(super) fn remove(&mut self, sock: u64) -> Source {
        self.open.remove(&sock).unwrap().source()
    }

    /// The second step, where the ring is full: the end is counted.
    pub(super) fn count_missed(&mut self, source: Source) {
        let totals = self.totals.entry(source).or_default();
        totals.missed[Phase::Established as usize][End::Reset as usize] += 1;
        self.lose(LossReason::RingFull);
    }

    pub(super) fn lose(&mut self, reason: LossReason) {
        let mut losses = self.losses.iter_mut();
        let loss = losses.find(|(other, _)| *other == reason);
        loss.unwrap().1 += 1;
    }

    fn missed(&self, source: Source) -> Ends {
        let totals = self.totals.get(&source);
        totals.map(|totals| totals.missed).unwrap_or_default()
    }
}

impl Holdings for FakeKernel {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn losses(&self) -> Result<[(LossReason, u64); LossReason::ALL.len()], KernelError> {
        Ok(self.losses)
    }

    fn missed_events(&self) -> Vec<(&'static str, u64)> {
        self.missed_events.clone()
    }

    fn refused(&mut self, source: Source) -> Result<u32, KernelError> {
        let totals = self.totals.get(&source);
        Ok(totals.map_or(0, |totals| totals.refused))
    }

    fn open_files(&mut self) -> Result<Option<ReadFiles>, KernelError> {
        let (read, unreadable) = (self.files_read.clone(), self.unreadable);
        Ok(Some(Box::new(move || {
            read.fetch_add(1, Ordering::SeqCst);
            if unreadable {
                return Err(KernelError::Run {
                    program: "enumerate",
                    reason: "unreadable".to_owned(),
                });
            }
            Ok(())
        })))
    }

    fn list(
        &mut self,
        sources: impl IntoIterator<Item = Source>,
        now: Timestamp,
    ) -> Result<Option<Listing>, KernelError> {
        self.walks += 1;
        self.now = self.now + self.walk;
        if self.restless {
            return Ok(None);
        }
        let mut listing = Listing::begin(now);
        for source in sources {
            listing.add_source(source, self.missed(source));
        }
        for (sock, connection) in &self.open {
            listing.add_connection(*sock, *connection);
        }
        Ok(Some(listing))
    }

    fn settle(&mut self, listing: Listing) -> Result<HashMap<Source, Inventory>, KernelError> {
        listing.settle(|source| Ok(self.totals.get(&source).cloned().unwrap_or_default()))
    }
}
