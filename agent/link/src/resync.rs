//! Bringing the connections up to date after records were lost: what is open is taken up, what is
//! gone is matched with the ends that were missed.

use statlink_ebpf::{End, Phase};

use crate::{
    ConnectionId, MissedEnds, OpenConnection, connection::Ending, connections::Connections,
    time::Timestamp,
};

/// Each missed end is spent once: on a connection that is gone, or else it is left in `missed`.
/// Each connection that is gone ends once: by a missed end, or else for a cause that is not known.
/// So attempts and losses add up to the kernel's.
pub(crate) fn reconcile(
    connections: &mut Connections,
    at: Timestamp,
    open: &[OpenConnection],
    missed: &mut MissedEnds,
) {
    let mut gone = gone(connections, at, open);
    for (phase, progress) in MATCHES {
        for how in End::ALL {
            while missed.count(phase, how) > 0
                && let Some(ended) = connections.take_gone(&mut gone, progress)
            {
                missed.take(phase, how);
                let ending = Ending {
                    at,
                    phase,
                    how,
                    errno: 0,
                    heard: None,
                };
                connections.end(ended, &ending);
            }
        }
    }
    for id in gone {
        connections.gone(id, at);
    }
    // After the ends: what is found cannot cover a loss before it was looked at.
    for found in open {
        connections.listed(at, found);
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

/// The tracked connections that are not open any more, oldest first.
fn gone(connections: &Connections, at: Timestamp, open: &[OpenConnection]) -> Vec<ConnectionId> {
    let mut gone: Vec<_> = connections
        .open()
        // One that is younger than the listing cannot be in it.
        .filter(|id| id.born <= at && open.iter().all(|found| found.connection != *id))
        .collect();
    gone.sort_by_key(|id| id.born);
    gone
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
