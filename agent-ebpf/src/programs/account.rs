//! Totals, ring and connection maps, touched in the one order that loses nothing.
//!
//! Userspace asks for a source by creating its entry in [`TOTALS`]. From then on each end is told
//! by exactly one of: a record in the ring, or the source's `missed` totals. Before, it is told by
//! the `missed` totals kept under [`STRANGER_TOTALS`].

use aya_ebpf::bindings::{BPF_NOEXIST, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use statlink_ebpf::{
    Connection, ENDS, End, HOLD_NS, LOOKUP_PACE_NS, Loss, NEVER_HEARD, PHASES, Phase, Record,
    RecordKind, Source, Totals,
};

use crate::{
    atomic::{add_u32, add_u64},
    maps::{CONNECTIONS, RING, STRANGER_TOTALS, STRANGERS, TOTALS, lose, port},
};

/// In `.rodata`: too large for a program's stack of 512 bytes.
static ZERO_TOTALS: Totals = Totals {
    attempts: 0,
    retransmits: 0,
    looked_up_ns: 0,
    ended: [[0; ENDS]; PHASES],
    missed: [[0; ENDS]; PHASES],
};

/// What a record says beyond its connection.
pub(crate) struct Detail {
    pub(crate) kind: RecordKind,
    pub(crate) time_ns: u64,
    pub(crate) end: u8,
    pub(crate) errno: u16,
    pub(crate) phase: u8,
    pub(crate) timeouts: u8,
    pub(crate) heard_ago: u32,
}

impl Detail {
    #[inline(always)]
    pub(crate) fn new(kind: RecordKind, time_ns: u64) -> Self {
        Self {
            kind,
            time_ns,
            end: 0,
            errno: 0,
            phase: 0,
            timeouts: 0,
            heard_ago: NEVER_HEARD,
        }
    }
}

/// A source's totals, and whether userspace asked for them.
pub(crate) struct Account {
    totals: *mut Totals,
    pub(crate) asked: bool,
    /// A stranger's, of whose connections userspace is to be told.
    overheard: bool,
}

impl Account {
    /// The account of `source`, if userspace asked for it.
    #[inline(always)]
    pub(crate) fn asked_for(source: &Source) -> Option<Self> {
        let totals = TOTALS.get_ptr_mut(source)?;
        Some(Self {
            totals,
            asked: true,
            overheard: false,
        })
    }

    /// The account of `source`, opened among the strangers' if there is none.
    #[inline(always)]
    pub(crate) fn of(source: &Source) -> Option<Self> {
        if let Some(account) = Self::asked_for(source) {
            return Some(account);
        }
        let overheard = TOTALS.get_ptr(Source::everyone(source.netns)).is_some();
        if let Some(totals) = STRANGER_TOTALS.get_ptr_mut(source) {
            return Some(Self {
                totals,
                asked: false,
                overheard,
            });
        }
        // Another CPU may have been first: its entry serves as well.
        let _ = STRANGER_TOTALS.insert(source, &ZERO_TOTALS, u64::from(BPF_NOEXIST));
        match STRANGER_TOTALS.get_ptr_mut(source) {
            Some(totals) => Some(Self {
                totals,
                asked: false,
                overheard,
            }),
            None => {
                lose(Loss::TotalsFull);
                None
            }
        }
    }

    /// Whether userspace is to be told what happens.
    #[inline(always)]
    pub(crate) fn is_told(&self) -> bool {
        self.asked || self.overheard
    }

    /// How urgent news is that changes a link, if it is an asked source's.
    #[inline(always)]
    pub(crate) fn urgency(&self) -> Wake {
        if self.asked { Wake::Now } else { Wake::Later }
    }

    #[inline(always)]
    pub(crate) fn count_attempt(&self) {
        // SAFETY: `totals` is a live map value; see `add_u64`.
        unsafe { add_u64(&raw mut (*self.totals).attempts, 1) }
    }

    #[inline(always)]
    fn count_retransmits(&self, more: u32) {
        // SAFETY: as above.
        unsafe { add_u64(&raw mut (*self.totals).retransmits, u64::from(more)) }
    }

    /// Whether a name lookup at `now` is worth telling, which is noted. Two at a time may both be
    /// told.
    #[inline(always)]
    pub(crate) fn note_lookup(&self, now: u64) -> bool {
        // SAFETY: `totals` is a live map value.
        let last = unsafe { core::ptr::read_volatile(&raw const (*self.totals).looked_up_ns) };
        if now.wrapping_sub(last) < LOOKUP_PACE_NS {
            return false;
        }
        // SAFETY: as above.
        unsafe { core::ptr::write_volatile(&raw mut (*self.totals).looked_up_ns, now) };
        true
    }

    /// Counts one end, and tells it: by the ring if userspace asked and there is room, by the
    /// `missed` totals otherwise. What is but overheard is told by both.
    #[inline(always)]
    pub(crate) fn tell_end(&self, sock: u64, connection: &Connection, detail: &Detail) {
        // SAFETY: `totals` is a live map value; `add_cell` keeps within the array.
        unsafe {
            add_cell(
                (&raw mut (*self.totals).ended).cast(),
                detail.phase,
                detail.end,
            )
        };
        let told = self.is_told() && tell(sock, connection, detail, self.urgency());
        if !(self.asked && told) {
            // SAFETY: as above.
            unsafe {
                add_cell(
                    (&raw mut (*self.totals).missed).cast(),
                    detail.phase,
                    detail.end,
                )
            };
        }
    }
}

/// An attempt of `source` begins: it is counted, and this is what is known of it.
#[inline(always)]
pub(crate) fn begin(
    source: &Source,
    peer: [u8; 16],
    born_ns: u64,
    attempted_ns: u64,
) -> Option<Known> {
    let account = Account::of(source)?;
    account.count_attempt();
    let connection = Connection {
        born_ns,
        attempted_ns,
        peer,
        peer_port: port(),
        phase: Phase::Connecting as u8,
        ..nothing_of(source)
    };
    Some(Known {
        connection,
        account,
    })
}

/// What a record about a process, not a connection, has in a connection's place.
#[inline(always)]
pub(crate) fn nothing_of(source: &Source) -> Connection {
    Connection {
        born_ns: 0,
        attempted_ns: 0,
        established_ns: 0,
        tgid: source.tgid,
        netns: source.netns,
        peer: [0; 16],
        peer_port: 0,
        soft_errno: 0,
        retransmits: 0,
        phase: 0,
        _pad: [0; 7],
    }
}

/// Whether the reader is to be woken: a wake-up costs ten times the record.
#[derive(Clone, Copy)]
pub(crate) enum Wake {
    /// The link may have changed.
    Now,
    /// It can wait for the next record that cannot.
    Later,
}

/// Puts one record into the ring; false if it was full.
#[inline(always)]
pub(crate) fn tell(sock: u64, connection: &Connection, detail: &Detail, wake: Wake) -> bool {
    let Some(mut entry) = RING.reserve::<Record>(0) else {
        lose(Loss::RingFull);
        return false;
    };
    entry.write(Record {
        time_ns: detail.time_ns,
        sock,
        born_ns: connection.born_ns,
        attempted_ns: connection.attempted_ns,
        tgid: connection.tgid,
        netns: connection.netns,
        peer: connection.peer,
        peer_port: connection.peer_port,
        errno: detail.errno,
        kind: detail.kind as u8,
        end: detail.end,
        phase: detail.phase,
        timeouts: detail.timeouts,
        heard_ago: detail.heard_ago,
        _pad: 0,
    });
    // Forced, because the adaptive wake-up stays silent while an unwoken record waits.
    entry.submit(u64::from(match wake {
        Wake::Now => BPF_RB_FORCE_WAKEUP,
        Wake::Later => BPF_RB_NO_WAKEUP,
    }));
    true
}

/// A connection under way, wherever it is kept.
pub(crate) struct Known {
    pub(crate) connection: Connection,
    pub(crate) account: Account,
}

impl Known {
    /// Counts what was sent again since the last time, of `total` by the kernel's own count. The
    /// caller keeps the connection.
    #[inline(always)]
    pub(crate) fn count_retransmits(&mut self, total: u32) {
        let more = total.wrapping_sub(self.connection.retransmits);
        if more > 0 {
            self.account.count_retransmits(more);
            self.connection.retransmits = total;
        }
    }
}

/// Looks a connection up; one that was a stranger's moves over once its source is asked for.
#[inline(always)]
pub(crate) fn find(sock: u64) -> Option<Known> {
    if let Some(found) = CONNECTIONS.get_ptr(sock) {
        // SAFETY: a live map value; entries are only written whole or by the one socket's events.
        let connection = unsafe { *found };
        let account = Account::of(&source(&connection))?;
        return Some(Known {
            connection,
            account,
        });
    }
    let found = STRANGERS.get_ptr(sock)?;
    // SAFETY: as above.
    let connection = unsafe { *found };
    let account = Account::of(&source(&connection))?;
    if account.asked {
        keep(sock, &connection, true);
    }
    Some(Known {
        connection,
        account,
    })
}

/// Keeps a connection until its end.
#[inline(always)]
pub(crate) fn keep(sock: u64, connection: &Connection, asked: bool) {
    if asked {
        if CONNECTIONS.insert(sock, connection, 0).is_ok() {
            let _ = STRANGERS.remove(sock);
        } else {
            lose(Loss::ConnectionsFull);
        }
    } else {
        // A former life of the same address must not shadow this one.
        let _ = CONNECTIONS.remove(sock);
        if STRANGERS.insert(sock, connection, 0).is_err() {
            lose(Loss::ConnectionsFull);
        }
    }
}

/// Where a connection is kept, to change a part of it.
#[inline(always)]
pub(crate) fn kept(sock: u64) -> Option<*mut Connection> {
    CONNECTIONS
        .get_ptr_mut(sock)
        .or_else(|| STRANGERS.get_ptr_mut(sock))
}

/// Forgets a connection. Before its end is told, so that who misses the record and looks at the
/// map finds it gone.
#[inline(always)]
pub(crate) fn forget(sock: u64) {
    let _ = CONNECTIONS.remove(sock);
    let _ = STRANGERS.remove(sock);
}

/// How far an ending connection had come.
#[inline(always)]
pub(crate) fn phase(connection: &Connection, heard_ago: u32, now: u64) -> Phase {
    if connection.phase == Phase::Connecting as u8 {
        Phase::Connecting
    } else if heard_ago != NEVER_HEARD && now.wrapping_sub(connection.established_ns) >= HOLD_NS {
        Phase::Held
    } else {
        Phase::Established
    }
}

/// Ends a connection: forgets it, then tells it.
#[inline(always)]
pub(crate) fn end(sock: u64, known: &Known, how: End, errno: u16, timeouts: u8, heard_ago: u32) {
    let time_ns = now();
    let mut detail = Detail::new(RecordKind::Ended, time_ns);
    detail.end = how as u8;
    detail.errno = errno;
    detail.timeouts = timeouts;
    detail.heard_ago = heard_ago;
    detail.phase = phase(&known.connection, heard_ago, time_ns) as u8;
    forget(sock);
    known.account.tell_end(sock, &known.connection, &detail);
}

#[inline(always)]
pub(crate) fn source(connection: &Connection) -> Source {
    Source {
        netns: connection.netns,
        tgid: connection.tgid,
    }
}

/// `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Adds one to the cell of `phase` and `end`, atomically; nothing if there is no such cell.
///
/// # Safety
///
/// `cells` must point to a live map value's `[[u32; ENDS]; PHASES]`.
#[inline(always)]
unsafe fn add_cell(cells: *mut u32, phase: u8, end: u8) {
    let index = phase as usize * ENDS + end as usize;
    if index >= ENDS * PHASES {
        return;
    }
    // SAFETY: by contract, and within the array.
    unsafe { add_u32(cells.add(index)) };
}
