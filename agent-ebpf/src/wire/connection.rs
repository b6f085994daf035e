//! Connections and connect() calls: the values of the kernel half's maps.

use super::{Phase, Source};

/// A connection between connect() and its end, keyed by the address of its `struct sock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Connection {
    /// As [`Record::born_ns`](super::Record::born_ns).
    pub born_ns: u64,
    /// As [`Record::attempted_ns`](super::Record::attempted_ns).
    pub attempted_ns: u64,
    /// When the three-way handshake completed; 0 before, or when it was not seen.
    pub established_ns: u64,
    /// As [`Record::tgid`](super::Record::tgid).
    pub tgid: u32,
    /// As [`Record::netns`](super::Record::netns).
    pub netns: u32,
    /// As [`Record::peer`](super::Record::peer).
    pub peer: [u8; 16],
    /// As [`Record::peer_port`](super::Record::peer_port).
    pub peer_port: u16,
    /// The errno of an ICMP error that arrived during connect(); 0 if there was none. The kernel
    /// lets the client decide whether to continue.
    pub soft_errno: u16,
    /// Retransmitted segments that are counted in the source's totals.
    pub retransmits: u32,
    /// A [`Phase`], `Connecting` or `Established`; [`Self::OVER`] once it has ended.
    pub phase: u8,
    /// The [`Place`](super::Place) that this entry takes.
    pub place: u8,
    /// The errno that the kernel last reported, before the end, to the tasks that wait for the
    /// socket; 0 if there was none. The client takes it out of the socket.
    pub reported_errno: u16,
    /// 1 while the connect() that sent the SYN has not returned and has no [`ConnectCall`], because there
    /// was no room for one.
    pub in_unkept_call: u8,
    /// Explicit padding, 0.
    pub _pad: [u8; 3],
}

impl Connection {
    /// Instead of a phase: its end has been reported, and only the entry could not be removed.
    pub const OVER: u8 = 0xff;

    /// The owner of the connection.
    #[inline(always)]
    pub const fn source(&self) -> Source {
        Source {
            netns: self.netns,
            tgid: self.tgid,
        }
    }

    /// How far the connection had come by its last event.
    #[inline(always)]
    pub const fn last_phase(&self) -> Phase {
        if self.phase == Phase::Connecting as u8 {
            Phase::Connecting
        } else {
            Phase::Established
        }
    }
}

/// A connect() under way, keyed by the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ConnectCall {
    /// When it was called, nanoseconds.
    pub time_ns: u64,
    /// The socket on which it sent a SYN; 0 before the SYN.
    pub sock: u64,
    /// As [`Record::peer`](super::Record::peer).
    pub peer: [u8; 16],
    /// Inode number of the caller's network namespace.
    pub netns: u32,
    /// The file descriptor that it was called with.
    pub fd: u32,
    /// The [`Place`](super::Place) that this entry takes.
    pub place: u8,
    /// Explicit padding, 0.
    pub _pad: [u8; 7],
}

const _: () = {
    assert!(size_of::<Connection>() == 64);
    assert!(size_of::<ConnectCall>() == 48);
};
