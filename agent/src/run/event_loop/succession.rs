//! What the agent leaves to a successor, and what it found of its predecessor.

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use super::{
    super::{registry::Entry, snapshot, unsaved::Unsaved},
    EventLoop,
};
use crate::{
    clock, discovery,
    kernel::KernelError,
    memory::{Left, Process, ProcessId},
    time::Timestamp,
};

impl EventLoop {
    /// Goes on with what the agent before this one `left`.
    pub(super) fn take_over(&mut self, left: Left) {
        for pod in left.pods {
            self.ledger.restore(pod);
        }
        self.ledger.await_only(is_alive);
    }

    /// Leaves what has changed since to a successor.
    pub(super) fn remember(&mut self) -> Result<(), KernelError> {
        let Unsaved { links, mut pods } = std::mem::take(&mut self.unsaved);
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
                let process = (process(entry), counted);
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

    /// The same of all: what the kernel counts changes without a call.
    pub(super) fn remember_all(&mut self) -> Result<(), KernelError> {
        if let Some(memory) = &self.memory {
            self.unsaved.links.extend(self.registry.ids());
            self.ledger.await_only(is_alive);
            memory.retain(|name| self.ledger.has(name));
        }
        self.remember()
    }
}

/// What is remembered of the process of a link.
fn process(entry: &Entry) -> Option<Process> {
    Some(Process {
        id: entry.process?,
        unreached: entry.machine.never_reachable(),
        legacy: entry.machine.legacy(),
    })
}

/// The identity of a process that is there.
pub(super) fn identify(pid: u32) -> Option<ProcessId> {
    let started = discovery::started(pid)?;
    Some(ProcessId { pid, started })
}

fn is_alive(process: ProcessId) -> bool {
    identify(process.pid) == Some(process)
}

fn since_epoch(at: Timestamp) -> u64 {
    let since = clock::wall(at).0.duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
