//! Open connections, from connect() to their end.

use statlink_ebpf::{Connection, End, LossReason, Phase, Source, decide::NEVER_HEARD};

use crate::{
    constants::port,
    maps::{CONNECTIONS, UNTRACKED_CONNECTIONS, count_loss},
    records::{Ended, now},
    totals::SourceTotals,
};

/// An open connection and the totals of its source.
pub(crate) struct OpenConnection {
    pub(crate) connection: Connection,
    pub(crate) totals: SourceTotals,
}

impl OpenConnection {
    /// An attempt of `source` begins: it is counted. The caller keeps the connection.
    #[inline(always)]
    pub(crate) fn begin(
        source: Source,
        peer: [u8; 16],
        born_ns: u64,
        attempted_ns: u64,
    ) -> Option<Self> {
        let totals = SourceTotals::of(source)?;
        totals.count_attempt();
        let connection = Connection {
            born_ns,
            attempted_ns,
            established_ns: 0,
            tgid: source.tgid,
            netns: source.netns,
            peer,
            peer_port: port(),
            soft_errno: 0,
            retransmits: 0,
            phase: Phase::Connecting as u8,
            _pad: [0; 7],
        };
        Some(Self { connection, totals })
    }

    /// Finds a connection. One that was untracked moves over once its source is tracked.
    #[inline(always)]
    pub(crate) fn find(sock: u64) -> Option<Self> {
        if let Some(found) = CONNECTIONS.get_ptr(sock) {
            // SAFETY: a live map value; entries are only written whole or by the one socket's events.
            let connection = unsafe { *found };
            let totals = SourceTotals::of(source(&connection))?;
            return Some(Self { connection, totals });
        }
        let found = UNTRACKED_CONNECTIONS.get_ptr(sock)?;
        // SAFETY: as above.
        let connection = unsafe { *found };
        let totals = SourceTotals::of(source(&connection))?;
        if totals.tracked {
            keep(sock, &connection, true);
        }
        Some(Self { connection, totals })
    }

    /// Keeps the connection, as it is now, until its end.
    #[inline(always)]
    pub(crate) fn keep(&self, sock: u64) {
        keep(sock, &self.connection, self.totals.tracked);
    }

    /// Counts what was sent again since the last time, of `total` by the kernel's own count. The
    /// caller keeps the connection.
    #[inline(always)]
    pub(crate) fn count_retransmits(&mut self, total: u32) {
        let more = total.wrapping_sub(self.connection.retransmits);
        if more > 0 {
            self.totals.count_retransmits(more);
            self.connection.retransmits = total;
        }
    }

    /// Ends the connection: it is forgotten first and reported then, so that a reader who misses the
    /// record and looks at the map finds it gone.
    #[inline(always)]
    pub(crate) fn end(&self, sock: u64, ended: &Ended) {
        let _ = CONNECTIONS.remove(sock);
        let _ = UNTRACKED_CONNECTIONS.remove(sock);
        self.totals.report_end(sock, &self.connection, ended);
    }

    /// An end, now, of a connection on which nothing was ever heard, as far as is known.
    #[inline(always)]
    pub(crate) fn unheard_end(&self, end: End, errno: u16) -> Ended {
        Ended {
            time_ns: now(),
            end,
            errno,
            phase: self.connection.last_phase(),
            timeouts: 0,
            heard_ns: NEVER_HEARD,
        }
    }
}

#[inline(always)]
fn keep(sock: u64, connection: &Connection, tracked: bool) {
    if tracked {
        if CONNECTIONS.insert(sock, connection, 0).is_ok() {
            let _ = UNTRACKED_CONNECTIONS.remove(sock);
        } else {
            count_loss(LossReason::ConnectionsFull);
        }
    } else {
        // A former life of the same address must not shadow this one.
        let _ = CONNECTIONS.remove(sock);
        if UNTRACKED_CONNECTIONS.insert(sock, connection, 0).is_err() {
            count_loss(LossReason::ConnectionsFull);
        }
    }
}

/// Where a connection is kept, to change a part of it.
#[inline(always)]
pub(crate) fn kept(sock: u64) -> Option<*mut Connection> {
    CONNECTIONS
        .get_ptr_mut(sock)
        .or_else(|| UNTRACKED_CONNECTIONS.get_ptr_mut(sock))
}

#[inline(always)]
const fn source(connection: &Connection) -> Source {
    Source {
        netns: connection.netns,
        tgid: connection.tgid,
    }
}
