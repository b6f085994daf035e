//! What the agent leaves to a successor, and what it takes over from its predecessor.

use std::{collections::BTreeMap, sync::Arc, time::UNIX_EPOCH};

use statlink_ebpf::Source;
use tokio::sync::oneshot;

use super::{
    super::{registry::Entry, snapshot},
    EventLoop,
};
use crate::{
    clock, discovery,
    kernel::{Before, Ends, Kernel, KernelError, Told},
    memory::{Left, Memory, Process, ProcessId, Reading},
    snapshot::Snapshot,
    time::Timestamp,
};

impl EventLoop {
    /// Continues with what the agent before this one `left`.
    pub(super) fn take_over(&mut self, left: Left) {
        for pod in left.pods {
            self.ledger.restore(pod);
        }
        self.ledger.await_only(is_alive);
    }

    /// Updates the memory with what has changed, if that is due.
    pub(super) fn remember_due(&mut self) -> Result<(), KernelError> {
        if self.unsaved.due().is_some_and(|due| due <= clock::now()) {
            self.remember()?;
            if let Some(memory) = &self.memory {
                memory.write_soon();
            }
        }
        Ok(())
    }

    /// Sends a snapshot to its receiver, once the memory holds all of it, so that a successor never
    /// shows less.
    pub(super) fn give(&self, snapshot: Snapshot, to: oneshot::Sender<Arc<Snapshot>>) {
        let written = self.memory.clone().map(Memory::written);
        let give = move || {
            // The receiver may have given up waiting.
            let _ = to.send(Arc::new(snapshot));
        };
        match written {
            Some(written) => {
                tokio::spawn(async move {
                    written.await;
                    give();
                });
            }
            None => give(),
        }
    }

    fn remember(&mut self) -> Result<(), KernelError> {
        let (links, mut pods) = self.unsaved.take(clock::now());
        let Some(memory) = &self.memory else {
            return Ok(());
        };
        let links = links.into_iter().filter_map(|id| self.registry.get(id));
        pods.extend(links.map(Entry::series));
        if pods.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        let mut processes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (_, entry) in self.registry.iter_mut() {
            let series = entry.series();
            if pods.contains(&series) {
                let retransmits = self.kernel.source_totals(entry.source)?.retransmits;
                let counted = snapshot::of_process(entry, retransmits, now).total;
                let process = (process(&self.kernel, entry, retransmits), counted);
                processes.entry(series).or_default().push(process);
            }
        }
        let ledger = &mut self.ledger;
        memory.remember(pods.iter().filter_map(|name| {
            let present = processes.remove(name).unwrap_or_default();
            ledger.remembered(name, present, since_epoch)
        }));
        Ok(())
    }

    /// Updates the memory with every link before a snapshot is shown: the kernel's counts change
    /// without an event.
    pub(super) fn remember_all(&mut self) -> Result<(), KernelError> {
        if let Some(memory) = &self.memory {
            self.unsaved.all(self.registry.ids());
            self.ledger.await_only(is_alive);
            memory.retain(|name| self.ledger.has(name));
        }
        self.remember()
    }
}

/// What the memory holds of a link's process.
fn process(kernel: &Kernel, entry: &Entry, retransmits: u64) -> Option<Process> {
    Some(Process {
        id: entry.process?,
        unreached: entry.unreached(),
        legacy: entry.machine.legacy(),
        reading: kernel
            .half()
            .map(|half| reading(half, kernel, entry, retransmits)),
    })
}

/// How far the kernel half, which a successor may go on with, is told of a link.
fn reading(half: u32, kernel: &Kernel, entry: &Entry, retransmits: u64) -> Reading {
    let progress = entry.machine.progress();
    let ended = entry.owed.counted(&progress.undecided);
    let told = kernel.told(entry.source, retransmits, ended);
    Reading {
        half,
        netns: entry.source.netns,
        retransmits: told.retransmits,
        ended: told.ended.as_flattened().to_vec(),
        counted: progress.counted,
    }
}

/// How far the kernel half that may be pinned is told, by what the agent before this one `left`.
pub(crate) fn before(left: &Left) -> Before {
    let processes = left.pods.iter().flat_map(|pod| &pod.processes);
    let of_half = processes.filter_map(|process| {
        let reading = process.reading.as_ref();
        let reading = reading.filter(|reading| Some(reading.half) == left.half)?;
        let source = Source {
            netns: reading.netns,
            tgid: process.id.pid,
        };
        let mut ended = Ends::default();
        for (count, told) in ended.iter_mut().flatten().zip(&reading.ended) {
            *count = *told;
        }
        let told = Told {
            retransmits: reading.retransmits,
            ended,
        };
        is_alive(process.id).then_some((source, told))
    });
    Before {
        half: left.half,
        told: of_half.collect(),
    }
}

/// The identity of a running process.
pub(super) fn identify(pid: u32) -> Option<ProcessId> {
    let started = discovery::started(pid)?.ticks();
    Some(ProcessId { pid, started })
}

fn is_alive(process: ProcessId) -> bool {
    identify(process.pid) == Some(process)
}

fn since_epoch(at: Timestamp) -> u64 {
    let since = clock::wall(at).0.duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
