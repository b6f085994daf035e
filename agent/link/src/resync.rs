//! Bringing the connections up to date after records were lost: what is open is taken up, what is
//! gone is matched with the ends that were missed.
//!
//! A listing may lack a connection that is open: the walk of a map misses what is moved in it
//! meanwhile. So what is missing in it is looked at before it is taken for gone, and until then the
//! missed ends wait ([`Reconciliation`]). What is gone without a missed end has its record to come,
//! and waits for that as any other connection that looks find gone.

use std::collections::BTreeSet;

use statlink_ebpf::{End, Phase};

use crate::{
    ConnectionId, MissedEnds, OpenConnection, Sample, connection::Ending, connections::Connections,
    time::Timestamp, timings::VANISHED,
};

/// A listing, and looks at what is missing in it.
#[derive(Clone, Debug)]
pub(crate) struct Reconciliation {
    /// When the listing was made.
    pub(crate) at: Timestamp,
    pub(crate) open: Vec<OpenConnection>,
    pub(crate) missed: MissedEnds,
    /// Not in the listing, and to be looked at.
    unlooked: BTreeSet<ConnectionId>,
    /// Not in the listing, and not there.
    gone: BTreeSet<ConnectionId>,
    /// Whoever has not been found by then is gone.
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

    /// Another listing came before this one was complete: the newer one holds.
    pub(crate) fn succeed(&mut self, before: &Self) {
        self.missed.add_all(&before.missed);
    }

    /// Which of `connections` are missing in it: they are to be looked at.
    pub(crate) fn compare(&mut self, connections: &mut Connections) {
        let missing: Vec<_> = connections
            .open()
            // One that is younger than the listing cannot be in it.
            .filter(|id| id.born <= self.at)
            .filter(|id| self.open.iter().all(|found| found.connection != *id))
            .collect();
        for id in missing {
            match connections.look_for(id, self.at) {
                // A look has found it gone before: its own patience ends that much earlier.
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

    /// A look at `connection` gave `sample`.
    pub(crate) fn looked(&mut self, connection: ConnectionId, sample: Option<&Sample>) {
        if self.unlooked.remove(&connection) && sample.is_none() {
            self.gone.insert(connection);
        }
    }

    /// Its end was read.
    pub(crate) fn ended(&mut self, connection: ConnectionId) {
        self.unlooked.remove(&connection);
        self.gone.remove(&connection);
    }

    /// Whether every connection that is missing in it has been looked at.
    pub(crate) fn is_complete(&self) -> bool {
        self.unlooked.is_empty()
    }

    /// When it is to be completed, whatever was not looked at.
    pub(crate) fn due(&self) -> Timestamp {
        self.due
    }

    /// Takes the missed ends of those of `connections` that are gone, and then takes up those that
    /// are listed and `belong` here.
    ///
    /// Each missed end is spent once: on a connection that is gone, on one that was decided without its
    /// end, or else it is left in `missed`.
    /// So attempts and losses add up to the kernel's.
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
        // After the ends: what is found cannot cover a loss before it was looked at.
        for found in self.open.iter().filter(|found| belongs(found)) {
            connections.listed(self.at, found);
        }
    }

    /// Takes missed ends, best match first, for as long as `takes` has a connection for one: told the end
    /// by its phase and kind, and how far the connection is known to have come.
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

/// What is left of `missed` are ends of connections that were never known.
pub(crate) fn history(connections: &mut Connections, at: Timestamp, missed: &MissedEnds) {
    for phase in Phase::ALL {
        // A process that is ending takes its connections with it: they are not counted.
        for how in End::ALL.into_iter().filter(|how| *how != End::Exiting) {
            let number = missed.count(phase, how);
            if number > 0 {
                connections.ended_unseen(at, phase, how, number);
            }
        }
    }
}

/// Which missed end goes with a connection how far known to have come, best match first. A
/// connection may have come further than its records did, never less far.
const MATCHES: [(Phase, Phase); 6] = [
    (Phase::Held, Phase::Held),
    (Phase::Established, Phase::Established),
    (Phase::Connecting, Phase::Connecting),
    (Phase::Held, Phase::Established),
    (Phase::Established, Phase::Connecting),
    (Phase::Held, Phase::Connecting),
];
