//! Open connections, from connect() to their end.

use aya_ebpf::bindings::BPF_NOEXIST;
use statlink_ebpf::{Connection, End, Phase, Place, Source, decide::NEVER_HEARD};

use crate::{
    account::Account,
    constants::port,
    maps::CONNECTIONS,
    records::{Ended, now},
};

/// An open connection and its owner.
pub(crate) struct OpenConnection {
    /// A copy of the entry.
    pub(crate) connection: Connection,
    pub(crate) account: Account,
}

impl OpenConnection {
    /// An attempt of `source`, the current process, begins, and is counted. The caller keeps the
    /// connection. `None` if nobody watches it.
    #[inline(always)]
    pub(crate) fn begin(
        source: Source,
        peer: [u8; 16],
        born_ns: u64,
        attempted_ns: u64,
    ) -> Option<Self> {
        let account = Account::of_current(source)?;
        account.count_attempt();
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
            place: Place::Reserved as u8,
            reported_errno: 0,
            in_unkept_call: 0,
            _pad: [0; 3],
        };
        Some(Self {
            connection,
            account,
        })
    }

    /// Finds a connection.
    #[inline(always)]
    pub(crate) fn find(sock: u64) -> Option<Self> {
        let found = CONNECTIONS.get_ptr(sock)?;
        // SAFETY: a live map value. The events of this one socket write its fields, under its lock,
        // and a return of connect() writes two of them concurrently; each is plain data, and right
        // whether it is read before or after.
        let connection = unsafe { *found };
        if connection.phase == Connection::OVER {
            let _ = CONNECTIONS.remove(sock);
            return None;
        }
        let account = Account::existing(connection.source()).unwrap_or(Account::nobodys());
        Some(Self {
            connection,
            account,
        })
    }

    /// Keeps the connection until its end; returns false, and counts it, if there was no room.
    #[inline(always)]
    pub(crate) fn keep(&mut self, sock: u64) -> bool {
        let Some(place) = self.account.take_connection() else {
            return false;
        };
        self.connection.place = place as u8;
        match insert(sock, &self.connection) {
            Ok(()) => return true,
            Err(EEXIST) => {
                // An earlier life of this address, whose end and destruction were missed.
                discard(sock);
                if insert(sock, &self.connection).is_ok() {
                    return true;
                }
            }
            Err(_) => {}
        }
        self.account.release_connection(place);
        self.account.count_refused();
        false
    }

    /// Counts the segments retransmitted since the last call, given the kernel's own `total`;
    /// returns whether there were any.
    #[inline(always)]
    pub(crate) fn count_retransmits(&mut self, total: u32) -> bool {
        let more = total.wrapping_sub(self.connection.retransmits);
        if more > 0 {
            self.account.count_retransmits(more);
            self.connection.retransmits = total;
        }
        more > 0
    }

    /// Ends the connection. It is removed first and reported then, so that a reader who misses the
    /// record and looks at the map finds it gone. `sock` is 0 for a connection that is not kept.
    #[inline(always)]
    pub(crate) fn end(&self, sock: u64, ended: &Ended) {
        if sock != 0 {
            forget(sock, &self.connection, &self.account);
        }
        self.account.report_end(sock, &self.connection, ended);
    }

    /// An end, now, of a connection on which nothing was heard, as far as is known.
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

/// Adds a connection unless the map has one.
#[inline(always)]
pub(crate) fn insert(sock: u64, connection: &Connection) -> Result<(), i32> {
    CONNECTIONS.insert(sock, connection, u64::from(BPF_NOEXIST))
}

/// Removes a connection and gives its place back.
#[inline(always)]
pub(crate) fn forget(sock: u64, connection: &Connection, account: &Account) {
    if CONNECTIONS.remove(sock).is_err() {
        // Another program removed it meanwhile, and gave its place back.
        let Some(kept) = kept(sock) else {
            return;
        };
        // An interrupt holds the bucket on this CPU (`htab_lock_bucket()`, `kernel/bpf/hashtab.c`).
        // SAFETY: a live map value; the end is the last to write it.
        unsafe { (*kept).phase = Connection::OVER };
    }
    account.release_connection(Place::from_raw(connection.place));
}

/// Removes any connection of this address, without a record.
#[inline(always)]
pub(crate) fn discard(sock: u64) {
    let Some(open) = OpenConnection::find(sock) else {
        return;
    };
    forget(sock, &open.connection, &open.account);
}

/// The entry of a connection, to change a part of it.
#[inline(always)]
pub(crate) fn kept(sock: u64) -> Option<*mut Connection> {
    CONNECTIONS.get_ptr_mut(sock)
}

/// The entry exists.
pub(crate) const EEXIST: i32 = -17;
