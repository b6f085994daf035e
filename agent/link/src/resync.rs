//! Bringing a link up to date after records were lost: what is open is taken up, what is gone is
//! matched with the ends that were missed.

use statlink_ebpf::{End, Phase};

use super::{
    CheckKind, Connection, ConnectionId, EventKind, FailedAttempt, Link, MissedEnds,
    OpenConnection, Output, connection::Ending, end,
};
use crate::time::Timestamp;

impl Link {
    /// Each missed end is spent once: on a connection that is gone, or else as history of one
    /// that was never known. Each connection that is gone ends once: by a missed end, or else
    /// for a cause that is not known. So attempts and losses add up to the kernel's.
    pub(super) fn resynchronise(
        &mut self,
        at: Timestamp,
        open: &[OpenConnection],
        mut missed: MissedEnds,
        outputs: &mut Vec<Output>,
    ) {
        self.reconcile(at, open, &mut missed, outputs);
        self.history(at, &missed, outputs);
    }

    /// The same, but leaves in `missed` what goes with no connection.
    pub(super) fn reconcile(
        &mut self,
        at: Timestamp,
        open: &[OpenConnection],
        missed: &mut MissedEnds,
        outputs: &mut Vec<Output>,
    ) {
        let mut gone = self.gone(at, open);
        for (phase, progress) in MATCHES {
            for how in End::ALL {
                while missed.count(phase, how) > 0
                    && let Some(ended) = self.take_gone(&mut gone, progress)
                {
                    missed.take(phase, how);
                    self.end_missed(ended, at, phase, how, outputs);
                }
            }
        }
        for id in gone {
            if let Some(connection) = self.connections.remove(&id) {
                self.end_unseen(connection, at, outputs);
            }
        }
        // After the ends: what is found cannot cover a loss before it was looked at.
        for found in open {
            self.found(at, found, outputs);
        }
    }

    /// The tracked connections that are not open any more, oldest first.
    fn gone(&self, at: Timestamp, open: &[OpenConnection]) -> Vec<ConnectionId> {
        let mut gone: Vec<_> = self
            .connections()
            // One that is younger than the listing cannot be in it.
            .filter(|id| id.born <= at && open.iter().all(|found| found.connection != *id))
            .collect();
        gone.sort_by_key(|id| id.born);
        gone
    }

    fn take_gone(&mut self, gone: &mut Vec<ConnectionId>, progress: Phase) -> Option<Connection> {
        let index = gone.iter().position(|id| {
            self.connections
                .get(id)
                .is_some_and(|connection| connection.progress() == Some(progress))
        })?;
        self.connections.remove(&gone.remove(index))
    }

    fn end_missed(
        &mut self,
        connection: Connection,
        at: Timestamp,
        phase: Phase,
        how: End,
        outputs: &mut Vec<Output>,
    ) {
        let ending = Ending {
            at,
            phase,
            how,
            errno: 0,
            heard: None,
        };
        self.end(connection, &ending, outputs);
    }

    /// Counts ends of connections of which nothing else is known. They change no outage: how
    /// long such a connection was live, nobody can tell.
    fn history(&mut self, at: Timestamp, missed: &MissedEnds, outputs: &mut Vec<Output>) {
        for phase in Phase::ALL {
            // A process that is ending takes its connections with it: they are not counted.
            for how in End::ALL.into_iter().filter(|how| *how != End::Exiting) {
                let n = missed.count(phase, how);
                if n > 0 {
                    self.last_activity = self.last_activity.max(at);
                    self.count_history(at, phase, how, n, outputs);
                }
            }
        }
    }

    fn count_history(
        &mut self,
        at: Timestamp,
        phase: Phase,
        how: End,
        n: u32,
        outputs: &mut Vec<Output>,
    ) {
        let times = u64::from(n);
        let cause = match phase {
            Phase::Connecting => end::of_connecting(how),
            Phase::Established => end::of_handshaking(how),
            Phase::Held => {
                let cause = end::of_live(how);
                self.counts.pass(CheckKind::Connect, times);
                self.counts.connect(times);
                self.counts.fail(CheckKind::Disconnect, cause, times);
                self.blame(at, cause.into(), outputs);
                return;
            }
        };
        self.counts.fail(CheckKind::Connect, cause, times);
        self.lookups.failed(n);
        let failed = FailedAttempt {
            at,
            peer_address: None,
            cause,
            proxy_address: None,
            errno: None,
            duration: None,
        };
        for _ in 0..n.min(HISTORY_TOLD) {
            self.trouble.remember(failed);
            outputs.push(Output::event(failed.at, EventKind::ConnectFailed(failed)));
        }
        self.blame(at, cause.into(), outputs);
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

/// How many failures of each kind that was missed are told one by one. They say no more than
/// their cause, and there may be millions; the counts have them all.
const HISTORY_TOLD: u32 = 16;
