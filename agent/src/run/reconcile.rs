//! Resynchronisation: brings links up to date with the kernel half, at discovery and after records
//! or events were lost.
//!
//! One *pass* serves any number of links with one walk of the map of connections. If the map may
//! lack connections, one pass over all open files comes first. The loop runs on meanwhile: another
//! thread reads the open files, and a listing settles while the loop does other work ([`Listing`]
//! says why it must).
//!
//! ```text
//! links are owed ─▶ read open files ─▶ list connections ─▶ settle ─▶ inputs for the links
//!                   (another thread)    (about 1 ms)        (1 ms)
//! ```
//!
//! Passes keep a distance, and a greater one while they lose records themselves ([`ResyncPace`]): a
//! burst that fills the ring must not make the agent work more.

#[cfg(test)]
mod fake;
mod holdings;
mod pace;
#[cfg(test)]
mod tests;

use statlink_ebpf::Source;
use tokio::task::{JoinHandle, spawn_blocking};

use self::{holdings::Holdings, pace::ResyncPace};
use super::{
    owed::{AT_ONCE, Depth},
    registry::{LinkId, Registry},
};
use crate::{
    chain::chain,
    kernel::{Inventory, KernelError, LISTING_SETTLES, Listing, LossReason},
    time::Timestamp,
};

/// Decides when to make a pass and for which links, and makes it.
#[derive(Debug, Default)]
pub(super) struct Reconciler {
    pass: Option<Pass>,
    pace: ResyncPace,
    /// The losses at the last look.
    losses: Vec<(LossReason, u64)>,
    /// The missed events of each hook at the last look.
    missed_events: Vec<(&'static str, u64)>,
}

/// A pass under way.
#[derive(Debug)]
struct Pass {
    links: Vec<(LinkId, Source)>,
    /// The total of losses when the pass began.
    lost: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Another thread reads the open files.
    ReadingFiles(JoinHandle<Result<(), KernelError>>),
    /// The map of connections must be walked next.
    List,
    /// The listing settles until this moment.
    Settling(Listing, Timestamp),
}

impl Reconciler {
    /// If the kernel half lost records since the last look, marks all links for reconciliation.
    /// Returns what else was lost.
    pub(super) fn check_losses(
        &mut self,
        kernel: &impl Holdings,
        registry: &mut Registry,
    ) -> Result<Lost, KernelError> {
        let losses = kernel.losses()?;
        let lost = Lost::between(&self.losses, &losses);
        if lost.records {
            // A kernel program updates the map of connections before it finds no room for the
            // record, so the open files would show no more.
            mark_all(registry, Depth::Connections);
        }
        self.losses = losses.to_vec();
        Ok(lost)
    }

    /// If a hook missed an event since the last look, marks all links for reconciliation. The event
    /// was most likely one of an unwatched socket, but nobody knows. Returns whether it may have
    /// been an execution.
    pub(super) fn check_missed_events(
        &mut self,
        kernel: &impl Holdings,
        registry: &mut Registry,
    ) -> bool {
        let missed = kernel.missed_events();
        let of = |missed: &[(&'static str, u64)], executions: bool| {
            let counts = missed.iter();
            let counts = counts.filter(|(hook, _)| (*hook == EXECUTIONS) == executions);
            counts.map(|(_, count)| count).sum::<u64>()
        };
        if of(&missed, false) != of(&self.missed_events, false) {
            // The event may have been the begin of a connection.
            mark_all(registry, Depth::OpenFiles);
        }
        let executions = of(&missed, true) != of(&self.missed_events, true);
        self.missed_events = missed;
        executions
    }

    /// The missed events of each hook at the last look.
    pub(super) fn missed_events(&self) -> &[(&'static str, u64)] {
        &self.missed_events
    }

    /// When to call [`advance`](Self::advance) next. `None` while nothing is owed, and while
    /// [`files_read`](Self::files_read) is pending.
    pub(super) fn next_deadline(&self, registry: &Registry) -> Option<Timestamp> {
        match self.pass.as_ref().map(|pass| &pass.stage) {
            Some(Stage::ReadingFiles(_)) => None,
            Some(Stage::List) => Some(AT_ONCE),
            Some(Stage::Settling(_, until)) => Some(*until),
            None => registry.next_owed().map(|at| at.max(self.pace.next)),
        }
    }

    /// Ready once the open files have been read; pending while no thread reads them. Cancel-safe.
    pub(super) async fn files_read(&mut self) -> Result<(), KernelError> {
        let Some(pass) = &mut self.pass else {
            return std::future::pending().await;
        };
        let Stage::ReadingFiles(reading) = &mut pass.stage else {
            return std::future::pending().await;
        };
        let read = reading.await;
        pass.stage = Stage::List;
        read.unwrap_or_else(|error| {
            Err(KernelError::Run {
                program: "enumerate",
                reason: chain(&error),
            })
        })
    }

    /// Advances as far as possible without waiting. When a pass is complete, returns the
    /// inventories of its links; the links get them after the ring was read.
    pub(super) fn advance(
        &mut self,
        kernel: &mut impl Holdings,
        registry: &mut Registry,
        now: Timestamp,
    ) -> Result<Vec<(LinkId, Inventory)>, KernelError> {
        if self.pass.is_none() && self.pace.next <= now {
            self.pass = begin(kernel, registry, now)?;
        }
        self.pass = match self.pass.take() {
            Some(Pass {
                links,
                lost,
                stage: Stage::List,
            }) => {
                let sources = links.iter().map(|(_, source)| *source);
                match kernel.list(sources, now)? {
                    Some(listing) => Some(Pass {
                        links,
                        lost,
                        // Counted from the end of the walk, which may itself take longer than that.
                        stage: Stage::Settling(listing, kernel.now() + LISTING_SETTLES),
                    }),
                    None => {
                        self.end(kernel, registry, &links, lost, now)?;
                        None
                    }
                }
            }
            Some(Pass {
                links,
                lost,
                stage: Stage::Settling(listing, until),
            }) if until <= now => {
                let mut settled = kernel.settle(listing)?;
                let (complete, again): (Vec<_>, Vec<_>) = links
                    .into_iter()
                    .map(|(id, source)| (id, source, settled.remove(&source)))
                    .partition(|(_, _, inventory)| inventory.is_some());
                let again: Vec<_> = again.iter().map(|(id, source, _)| (*id, *source)).collect();
                self.end(kernel, registry, &again, lost, now)?;
                let complete = complete.into_iter();
                return Ok(complete
                    .filter_map(|(id, _, inventory)| Some((id, inventory?)))
                    .collect());
            }
            waiting => waiting,
        };
        Ok(Vec::new())
    }

    /// Begins the last pass, over every link that is owed one, whatever the pace. It leaves out the
    /// open files, which take too long. Two calls of [`advance`](Self::advance),
    /// [`LISTING_SETTLES`] apart, complete it.
    pub(super) fn begin_last(
        &mut self,
        kernel: &impl Holdings,
        registry: &mut Registry,
        now: Timestamp,
    ) -> Result<(), KernelError> {
        let under_way = self.pass.take().map(|pass| pass.links);
        let mut links = under_way.unwrap_or_default();
        links.retain(|(id, _)| registry.get(*id).is_some());
        for (id, entry) in registry.iter_mut() {
            if entry.owed.take(now).is_some() && links.iter().all(|(other, _)| *other != id) {
                links.push((id, entry.source));
            }
        }
        self.pass = Some(Pass {
            links,
            lost: lost(kernel)?,
            stage: Stage::List,
        });
        Ok(())
    }

    /// Ends a pass; the links given here are owed another one.
    fn end(
        &mut self,
        kernel: &impl Holdings,
        registry: &mut Registry,
        again: &[(LinkId, Source)],
        lost_before: u64,
        now: Timestamp,
    ) -> Result<(), KernelError> {
        self.pace.ended(now, lost(kernel)? != lost_before);
        for (id, _) in again {
            if let Some(entry) = registry.get_mut(*id) {
                entry.owed.mark(Depth::Connections);
            }
        }
        Ok(())
    }
}

/// Begins a pass over the links that are owed one `now`, if any.
fn begin(
    kernel: &mut impl Holdings,
    registry: &mut Registry,
    now: Timestamp,
) -> Result<Option<Pass>, KernelError> {
    let mut deepest = Depth::Connections;
    let mut links = Vec::new();
    for (id, entry) in registry.iter_mut() {
        if let Some(depth) = entry.owed.take(now) {
            deepest = deepest.max(depth);
            links.push((id, entry.source));
        }
    }
    if links.is_empty() {
        return Ok(None);
    }
    let files = match deepest {
        Depth::Connections => None,
        Depth::OpenFiles => kernel.open_files()?,
    };
    if files.is_some() {
        for (id, source) in &links {
            let refused = kernel.refused(*source)?;
            if let Some(entry) = registry.get_mut(*id) {
                entry.completeness.pass_begins(refused);
            }
        }
    }
    Ok(Some(Pass {
        links,
        lost: lost(kernel)?,
        stage: match files {
            // Reading needs no capability, and blocking threads have none.
            Some(read) => Stage::ReadingFiles(spawn_blocking(read)),
            None => Stage::List,
        },
    }))
}

fn mark_all(registry: &mut Registry, depth: Depth) {
    for (_, entry) in registry.iter_mut() {
        entry.owed.mark(depth);
    }
}

fn lost(kernel: &impl Holdings) -> Result<u64, KernelError> {
    Ok(kernel.losses()?.iter().map(|(_, count)| count).sum())
}

/// What was lost between two looks and that userspace can repair or must report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Records of clients.
    records: bool,
    /// Open connections of clients; the totals say whose. They need no pass: one that finds a quota
    /// full would lose the same ones again.
    pub(super) connections: bool,
    /// The record of an execution.
    pub(super) executions: bool,
}

impl Lost {
    /// The losses from `before` to `now` that matter. Lost records of neighbours no longer explain
    /// anything, and what a full map of connect() calls or of candidates' totals left out cannot be
    /// found again.
    fn between(before: &[(LossReason, u64)], now: &[(LossReason, u64)]) -> Self {
        let count = |losses: &[(LossReason, u64)], reason| {
            let of_reason = losses.iter().find(|(other, _)| *other == reason);
            of_reason.map_or(0, |(_, count)| *count)
        };
        let changed = |reason| count(before, reason) != count(now, reason);
        Self {
            records: changed(LossReason::RingFull),
            connections: changed(LossReason::ConnectionsFull),
            executions: changed(LossReason::ExecutionLost),
        }
    }
}

/// The name in the table of hooks.
const EXECUTIONS: &str = "sched_process_exec";
