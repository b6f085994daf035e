//! What crosses the boundary between statlink's kernel half and its userspace half.
//!
//! Every map key, map value, ring record and `.rodata` constant is defined here and nowhere
//! else, so that both sides are compiled from the same text. The programs themselves are this
//! package's binary; what the records *mean* for a link is decided by `statlink::link`.
//!
//! All types are `repr(C)`, without implicit padding and without types that have invalid bit
//! patterns: userspace may read any bytes as any of them.
#![no_std]

mod end;
mod layout;

pub use end::{ENDS, End, PHASES, Phase};
pub use layout::Offsets;

/// Size of the ring, bytes: a power of two, and 1,600 records.
pub const RING_BYTES: u64 = 128 * 1024;

/// Bytes of a task's `comm`, terminator included (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// How many names of processes are watched, at most.
pub const COMMS: usize = 2;

/// A connection counts as held once it has stayed open this long after the peer's answer.
pub const HOLD_NS: u64 = 250_000_000;

/// Retransmission timeouts in a row after which unacknowledged data means a stall.
pub const STALL_TIMEOUTS: u8 = 2;

/// Process id of `kthreadd`, the parent of the kernel's threads, in the initial pid namespace:
/// always in the host's namespaces (`rest_init()`, `init/main.c`).
pub const KTHREADD: u32 = 2;

/// The port of name servers.
pub const NAME_SERVER_PORT: u16 = 53;

/// How often a source's name lookups are told, at most: they come in bursts.
pub const LOOKUP_PACE_NS: u64 = 100_000_000;

/// [`Record::heard_ago`] of a connection on which nothing was ever received.
pub const NEVER_HEARD: u32 = u32::MAX;

/// One thing that happened to one socket on the watched port, in a watched network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// `CLOCK_MONOTONIC` of the event, nanoseconds.
    pub time_ns: u64,
    /// Address of the `struct sock`: an identity for as long as the socket lives, never shown.
    /// 0 when connect() failed before a socket was involved.
    pub sock: u64,
    /// When this life of `sock` began. With `sock` it names a connection for ever.
    pub born_ns: u64,
    /// When connect() was called, nanoseconds; 0 when the connection is older than the agent.
    pub attempted_ns: u64,
    /// The owning process in the initial pid namespace, captured at connect().
    pub tgid: u32,
    /// Inode number of the socket's network namespace.
    pub netns: u32,
    /// The peer's address; IPv4 as `::ffff:a.b.c.d`.
    pub peer: [u8; 16],
    /// The peer's port, host byte order.
    pub peer_port: u16,
    /// The errno behind an end, 0 where there was none.
    pub errno: u16,
    /// A [`RecordKind`].
    pub kind: u8,
    /// An [`End`], for [`RecordKind::Ended`].
    pub end: u8,
    /// A [`Phase`]: how far the connection had come.
    pub phase: u8,
    /// Retransmission timeouts in a row (`icsk_retransmits`) at the event.
    pub timeouts: u8,
    /// Jiffies since data was last received, or [`NEVER_HEARD`].
    pub heard_ago: u32,
    /// Explicit padding, 0.
    pub _pad: u32,
}

/// What a [`Record`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// connect() was called and the SYN is about to be sent.
    Attempted = 1,
    /// The three-way handshake is complete.
    Established = 2,
    /// Data went unacknowledged through [`Record::timeouts`] retransmission timeouts.
    RetransmissionTimeout = 3,
    /// The attempt failed or the connection ended, as [`Record::end`] says.
    Ended = 4,
    /// A process of a watched name was executed ([`Record::tgid`]).
    Executed = 5,
    /// A name server is being asked: a connect() to its port. Told at most every
    /// [`LOOKUP_PACE_NS`], and only of a source that was asked for; nothing else is in the record.
    LookedUp = 6,
}

impl RecordKind {
    /// The kind a raw byte stands for.
    pub const fn from_raw(raw: u8) -> Option<Self> {
        Some(match raw {
            1 => Self::Attempted,
            2 => Self::Established,
            3 => Self::RetransmissionTimeout,
            4 => Self::Ended,
            5 => Self::Executed,
            6 => Self::LookedUp,
            _ => return None,
        })
    }
}

/// Whose totals: one process in one network namespace.
///
/// A userspace that asks for [`Self::everyone`] in a namespace is told, of the processes in it
/// that it has not asked for, each connection as well: those are counted as before all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Source {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
}

impl Source {
    /// Every process in `netns`; no process has the id 0.
    #[inline(always)]
    pub const fn everyone(netns: u32) -> Self {
        Self { netns, tgid: 0 }
    }
}

/// Everything that ever happened to one source on the watched port.
///
/// The truth that the ring's records are reconciled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Totals {
    /// connect() calls.
    pub attempts: u64,
    /// Segments sent again, SYNs included.
    pub retransmits: u64,
    /// When a name lookup was last told, nanoseconds; 0 if never.
    pub looked_up_ns: u64,
    /// Ends by [`Phase`] and [`End`].
    pub ended: [[u32; ENDS]; PHASES],
    /// Those of `ended` whose record did not reach the ring: it was full, or nobody had asked
    /// for this source yet.
    pub missed: [[u32; ENDS]; PHASES],
}

/// A connection between connect() and its end, keyed by the address of its `struct sock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Connection {
    /// As [`Record::born_ns`].
    pub born_ns: u64,
    /// As [`Record::attempted_ns`].
    pub attempted_ns: u64,
    /// When the three-way handshake completed; 0 before, or when it was not seen.
    pub established_ns: u64,
    /// As [`Record::tgid`].
    pub tgid: u32,
    /// As [`Record::netns`].
    pub netns: u32,
    /// As [`Record::peer`].
    pub peer: [u8; 16],
    /// As [`Record::peer_port`].
    pub peer_port: u16,
    /// The errno of an ICMP error that came while connect() was at work; 0 without one. The kernel
    /// leaves it to the dialler whether to go on.
    pub soft_errno: u16,
    /// Segments sent again, as far as they are in the source's totals.
    pub retransmits: u32,
    /// A [`Phase`]: [`Phase::Connecting`] or [`Phase::Established`].
    pub phase: u8,
    /// Explicit padding, 0.
    pub _pad: [u8; 7],
}

/// A connect() under way, keyed by the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ConnectCall {
    /// When it was called, nanoseconds.
    pub time_ns: u64,
    /// The socket it sent a SYN on; 0 while it has not.
    pub sock: u64,
    /// As [`Record::peer`].
    pub peer: [u8; 16],
}

/// One process, as the `namespaces` iterator writes it: those of a watched name, and
/// [`KTHREADD`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Process {
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Inode number of its network namespace; 0 when it is ending and has none any more.
    pub netns: u32,
}

/// One look at one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sample {
    /// `CLOCK_MONOTONIC` of the look, nanoseconds.
    pub time_ns: u64,
    /// The kernel's tick counter at the look.
    pub jiffies: u64,
    /// `tcp_sock.bytes_received`.
    pub bytes_received: u64,
    /// Jiffies since data was last received (`icsk_ack.lrcvtime`).
    pub heard_ago: u32,
    /// Jiffies since data was last sent (`tcp_sock.lsndtime`).
    pub sent_ago: u32,
    /// Smoothed round-trip time, microseconds.
    pub srtt_us: u32,
    /// Segments sent and not yet acknowledged (`tcp_sock.packets_out`).
    pub packets_out: u32,
    /// Retransmission timeouts in a row (`icsk_retransmits`).
    pub timeouts: u8,
    /// TCP state (`skc_state`).
    pub state: u8,
    /// 1 when the socket still was the connection asked for, from before to after the look.
    pub valid: u8,
    /// Explicit padding, 0.
    pub _pad: [u8; 5],
}

/// Why something did not reach userspace; the index into the per-CPU array of losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Loss {
    /// The ring was full.
    RingFull = 0,
    /// The map of connections was full.
    ConnectionsFull = 1,
    /// The map of totals was full.
    TotalsFull = 2,
    /// The map of connect() calls under way was full.
    CallsFull = 3,
}

impl Loss {
    /// Every reason, in index order.
    pub const ALL: [Self; 4] = [
        Self::RingFull,
        Self::ConnectionsFull,
        Self::TotalsFull,
        Self::CallsFull,
    ];

    /// The reason's name as a metric attribute.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::ConnectionsFull => "connections_full",
            Self::TotalsFull => "totals_full",
            Self::CallsFull => "calls_full",
        }
    }
}

// Both sides must agree to the byte, and an array of any of these must have no holes.
const _: () = {
    assert!(size_of::<Record>() == 72);
    assert!(size_of::<Source>() == 8);
    assert!(size_of::<Totals>() == 336);
    assert!(size_of::<Connection>() == 64);
    assert!(size_of::<ConnectCall>() == 32);
    assert!(size_of::<Process>() == 8);
    assert!(size_of::<Sample>() == 48);
    assert!(core::mem::offset_of!(Record, peer) == 40);
    assert!(core::mem::offset_of!(Totals, missed) == 24 + 4 * ENDS * PHASES);
};

#[cfg(feature = "user")]
mod user {
    use super::{ConnectCall, Connection, Offsets, Record, Sample, Source, Totals};

    // SAFETY: `repr(C)`, `Copy`, only integers and arrays of them, and no implicit padding: any
    // bytes of the right length are a valid value.
    unsafe impl aya::Pod for Record {}
    // SAFETY: as for `Record`.
    unsafe impl aya::Pod for Source {}
    // SAFETY: as for `Record`.
    unsafe impl aya::Pod for Totals {}
    // SAFETY: as for `Record`.
    unsafe impl aya::Pod for Connection {}
    // SAFETY: as for `Record`.
    unsafe impl aya::Pod for ConnectCall {}
    // SAFETY: as for `Record`.
    unsafe impl aya::Pod for Sample {}
    // SAFETY: as for `Record`.
    unsafe impl aya::Pod for Offsets {}
}
