//! Sources: which processes userspace tracks, and what the kernel counted about each.

use std::path::Path;

use aya::programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _};
use statlink_ebpf::{Order, Source, Standing, answer, limits};

use super::{
    error::KernelError,
    hooks::HookError,
    loaded::Kernel,
    maps::{failed, not_found},
    totals::SourceTotals,
};
use crate::chain::chain;

impl Kernel {
    /// Tracks a source, or a whole namespace for the neighbours in it: from now on each of its ends has
    /// a record, or is counted as missed. Returns whether there was room for it.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn track(&mut self, source: Source) -> Result<bool, KernelError> {
        let alike = |other: &&Source| (other.tgid == 0) == (source.tgid == 0);
        let room = limits::TRACKED_SOURCES as usize;
        if !self.tracked.contains(&source) && self.tracked.iter().filter(alike).count() >= room {
            return Ok(false);
        }
        if self.order(Order::Track, source.to_raw())? != answer::DONE {
            // Of processes that have ended, some may be there yet.
            self.sweep()?;
            if self.order(Order::Track, source.to_raw())? != answer::DONE {
                return Ok(false);
            }
        }
        self.tracked.insert(source);
        if let Some(pinned) = &mut self.pinned {
            pinned.awaited.remove(&source);
        }
        Ok(true)
    }

    /// Stops tracking a source, and forgets what it did.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn untrack(&mut self, source: Source) -> Result<(), KernelError> {
        if !self.tracked.remove(&source) {
            return Ok(());
        }
        self.order(Order::Retire, source.to_raw())?;
        // While its process lives its entry stays, for what it holds is counted there.
        if source.tgid == 0 {
            self.order(Order::Forget, source.to_raw())?;
        } else if is_alive(source.tgid) || !self.forget(source)? {
            let counted = self.counted(source)?;
            self.retired.insert(source, counted);
            self.untold.remove(&source);
        }
        Ok(())
    }

    /// What the kernel counted about `source`, before it was tracked and since; not what it did until
    /// it was untracked.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to read a map.
    pub fn source_totals(&mut self, source: Source) -> Result<SourceTotals, KernelError> {
        let mut totals = self.counted(source)?;
        if let Some(before) = self.retired.get(&source) {
            totals.merge(before, u64::saturating_sub, u32::saturating_sub);
        }
        if let Some(untold) = self.untold.get(&source) {
            totals.merge(untold, u64::saturating_add, u32::saturating_add);
        }
        Ok(totals)
    }

    /// Forgets what ended processes left: sources that nobody tracks, their connections and calls.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to read a map.
    pub fn sweep(&mut self) -> Result<(), KernelError> {
        let mut calls = Vec::new();
        for entry in self.calls.iter() {
            match entry {
                Ok((thread, _)) => calls.push(thread),
                Err(error) if not_found(&error) => {}
                Err(error) => return Err(failed("CALLS")(error)),
            }
        }
        let thread = |call: u64| ((call >> 32) as u32, (call & 0xffff_ffff) as u32);
        calls.retain(|call| !is_thread(thread(*call)));
        for call in calls {
            self.order(Order::ForgetCall, call)?;
        }

        let mut left = Vec::new();
        for (seen, entry) in self.connections.iter().enumerate() {
            match entry {
                Ok((sock, connection)) if !is_alive(connection.tgid) => left.push(sock),
                Ok(_) => {}
                Err(error) if not_found(&error) => {}
                Err(error) => return Err(failed("CONNECTIONS")(error)),
            }
            // A removal under way makes the kernel start over.
            if seen > limits::CONNECTIONS as usize {
                break;
            }
        }
        for sock in left {
            self.order(Order::ForgetConnection, sock)?;
        }

        let mut gone = Vec::new();
        for source in self.sources.keys() {
            match source {
                Ok(source) if !self.tracked.contains(&source) && !is_alive(source.tgid) => {
                    gone.push(source);
                }
                Ok(_) => {}
                Err(error) if not_found(&error) => {}
                Err(error) => return Err(failed("SOURCES")(error)),
            }
        }
        for source in gone {
            self.forget(source)?;
        }
        let mut namespaces = Vec::new();
        for netns in self.namespaces.keys() {
            match netns.map(Source::whole_namespace) {
                Ok(namespace) if !self.tracked.contains(&namespace) && !self.awaits_clients() => {
                    namespaces.push(namespace);
                }
                Ok(_) => {}
                Err(error) if not_found(&error) => {}
                Err(error) => return Err(failed("NAMESPACES")(error)),
            }
        }
        for namespace in namespaces {
            self.order(Order::Forget, namespace.to_raw())?;
        }
        Ok(())
    }

    /// Forgets a source whose process is gone; false while it holds something.
    fn forget(&mut self, source: Source) -> Result<bool, KernelError> {
        let forgotten = self.order(Order::Forget, source.to_raw())? == answer::DONE;
        if forgotten {
            self.retired.remove(&source);
            self.untold.remove(&source);
        }
        Ok(forgotten)
    }

    /// What stands in the map; nothing, if it has no such source.
    fn counted(&self, source: Source) -> Result<SourceTotals, KernelError> {
        match self.sources.get(&source, 0) {
            Ok(totals) => Ok(SourceTotals {
                attempts: totals.attempts,
                retransmits: totals.retransmits,
                ended: totals.ended,
                missed: totals.missed_ends,
                refused: totals.refused,
                held: totals.room.connections.total(),
            }),
            Err(error) if not_found(&error) => Ok(SourceTotals::default()),
            Err(error) => Err(failed("SOURCES")(error)),
        }
    }

    /// The candidates: processes of a watched name that nobody tracks.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to read the map.
    pub fn candidates(&self) -> Result<Vec<Source>, KernelError> {
        let mut candidates = Vec::new();
        for entry in self.sources.iter() {
            match entry {
                Ok((source, totals)) if totals.standing == Standing::Candidate as u32 => {
                    candidates.push(source);
                }
                Ok(_) => {}
                Err(error) if not_found(&error) => {}
                Err(error) => return Err(failed("SOURCES")(error)),
            }
        }
        Ok(candidates)
    }

    /// Runs the `track` program.
    fn order(&mut self, order: Order, what: u64) -> Result<i32, KernelError> {
        let run = |reason: &(dyn std::error::Error + 'static)| KernelError::Run {
            program: "track",
            reason: chain(reason),
        };
        let program = self.ebpf.program_mut("track");
        let program = program.ok_or_else(|| run(&HookError::NotInObject))?;
        let program: &mut RawTracePoint = program.try_into().map_err(|error| run(&error))?;
        let mut options = RawTracePointRunOptions::new();
        let [first, second, ..] = &mut options.args;
        (*first, *second) = (what, order as u64);
        let result = program.test_run(options).map_err(|error| run(&error))?;
        Ok(result.return_value.cast_signed())
    }
}

/// Whether there is such a process. One that has ended and that nobody has waited for yet is taken for
/// alive: it is swept later.
pub(super) fn is_alive(tgid: u32) -> bool {
    Path::new(&format!("/proc/{tgid}")).exists()
}

fn is_thread((tgid, thread): (u32, u32)) -> bool {
    Path::new(&format!("/proc/{tgid}/task/{thread}")).exists()
}
