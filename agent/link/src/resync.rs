//! Resynchronisation after records were lost: open connections are adopted, and missing ones are
//! matched with the missed ends.
//!
//! A listing may lack a connection that is open: the walk of a map misses entries that move
//! meanwhile. So missing connections are looked at before they count as gone, and until then the
//! missed ends wait ([`Reconciliation`]). A connection that is gone without a missed end has a
//! record on its way, and waits for it like any other connection that looks find gone.

use std::collections::BTreeSet;

use statlink_ebpf::{End, Phase};

use crate::{
    ConnectionId, MissedEnds, OpenConnection, Sample, connection::Ending, connections::Connections,
    time::Timestamp, timings::VANISHED,
};

/// A listing, and looks at the connections that it lacks.
#[derive(Clone, Debug)]
pub(crate) struct Reconciliation {
    /// When the listing was made.
    pub(crate) at: Timestamp,
    pub(crate) open: Vec<OpenConnection>,
    pub(crate) missed: MissedEnds,
    /// Not in the listing, and not looked at yet.
    unlooked: BTreeSet<ConnectionId>,
    /// Not in the listing, and gone.
    gone: BTreeSet<ConnectionId>,
    /// A connection that was not found by then is gone.
    due: Timestamp,
}

impl Reconciliation {
    pub(crate) fn new(at: Timestamp, open: Vec<OpenConnection>, missed: MissedEnds) -> Self {
        Self {
            at,
            open,
            missed,
            unlooked: BTreeSet::new(),
            gone: BTreeSet::new(),
            due: at + VANISHED,
        }
    }

    /// This listing replaces `before`, which was not complete, and takes over its missed ends.
    pub(crate) fn succeed(&mut self, before: &Self) {
        self.missed.add_all(&before.missed);
    }

    /// Finds the `connections` that the listing lacks; they must be looked at.
    pub(crate) fn compare(&mut self, connections: &mut Connections) {
        let missing: Vec<_> = connections
            .open()
            // A connection that is younger than the listing cannot be in it.
            .filter(|id| id.born <= self.at)
            .filter(|id| self.open.iter().all(|found| found.connection != *id))
            .collect();
        for id in missing {
            match connections.look_for(id, self.at) {
                // An earlier look found it gone, so its own deadline comes that much earlier.
                Some(vanished) => {
                    self.due = self.due.min(vanished + VANISHED);
                    self.gone.insert(id);
                }
                None => {
                    self.unlooked.insert(id);
                }
            }
        }
    }

    /// A look at `connection` returned `sample`.
    pub(crate) fn looked(&mut self, connection: ConnectionId, sample: Option<&Sample>) {
        if self.unlooked.remove(&connection) && sample.is_none() {
            self.gone.insert(connection);
        }
    }

    /// The record of its end was read.
    pub(crate) fn ended(&mut self, connection: ConnectionId) {
        self.unlooked.remove(&connection);
        self.gone.remove(&connection);
    }

    /// Whether every connection that the listing lacks has been looked at.
    pub(crate) fn is_complete(&self) -> bool {
        self.unlooked.is_empty()
    }

    /// When to complete it, even if some connections were not looked at.
    pub(crate) fn due(&self) -> Timestamp {
        self.due
    }

    /// Spends the missed ends on those of `connections` that are gone, and then adopts listed ones
    /// that `belong` here.
    ///
    /// Each missed end is spent once: on a connection that is gone, on one that was decided without
    /// its end, or it stays in `missed`. So attempts and losses add up to the kernel's.
    pub(crate) fn complete(
        &mut self,
        connections: &mut Connections,
        belongs: impl Fn(&OpenConnection) -> bool,
    ) {
        let all = self.gone.iter().chain(&self.unlooked);
        let mut gone: Vec<_> = all.copied().collect();
        gone.sort_by_key(|id| id.born);
        let at = self.at;
        self.spend(|phase, how, progress| {
            let Some(ended) = connections.take_gone(&mut gone, progress) else {
                return false;
            };
            let ending = Ending {
                at,
                phase,
                how,
                errno: 0,
                heard: None,
            };
            connections.end(ended, &ending);
            true
        });
        // Those were counted when they were decided without their ends.
        self.spend(|_, _, progress| connections.take_unaccounted(progress, at));
        // Ends first: a connection found here must not hide a loss that came before.
        for found in self.open.iter().filter(|found| belongs(found)) {
            connections.listed(self.at, found);
        }
    }

    /// Spends missed ends, best match first, as long as `takes` finds a connection for one. `takes`
    /// gets the end's phase and kind, and how far the connection is known to have come.
    fn spend(&mut self, mut takes: impl FnMut(Phase, End, Phase) -> bool) {
        for (phase, progress) in MATCHES {
            for how in End::ALL {
                while self.missed.count(phase, how) > 0 && takes(phase, how, progress) {
                    self.missed.take(phase, how);
                }
            }
        }
    }
}

/// Ends that remain in `missed` belong to connections that were never known.
pub(crate) fn history(connections: &mut Connections, at: Timestamp, missed: &MissedEnds) {
    for phase in Phase::ALL {
        // A process that ends closes its connections: these are not counted.
        for how in End::ALL.into_iter().filter(|how| *how != End::Exiting) {
            let number = missed.count(phase, how);
            if number > 0 {
                connections.ended_unseen(at, phase, how, number);
            }
        }
    }
}

/// Which phase of a missed end matches a connection in which known phase, best match first. A
/// connection may have come further than its records, never less far.
const MATCHES: [(Phase, Phase); 6] = [
    (Phase::Held, Phase::Held),
    (Phase::Established, Phase::Established),
    (Phase::Connecting, Phase::Connecting),
    (Phase::Held, Phase::Established),
    (Phase::Established, Phase::Connecting),
    (Phase::Held, Phase::Connecting),
];
