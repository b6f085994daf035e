//! What goes into a link: inputs, and the values that they carry.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use statlink_ebpf::{ENDS, End, PHASES, Phase};

use crate::{Cause, Legacy, UnknownReason, time::Timestamp};

/// Names one connection for ever: an address of a `struct sock` is used again, but never with
/// the same birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Address of the `struct sock`; 0 when connect() failed before a socket was involved.
    pub sock: u64,
    /// When this life of the socket began.
    pub born: Timestamp,
}

/// One thing that a link is to know. Its time is passed beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// connect() was called, at the input's time, and the SYN is about to be sent.
    Attempted {
        /// Which.
        connection: ConnectionId,
        /// Where to.
        peer_address: SocketAddr,
    },
    /// The TCP handshake is complete.
    Established {
        /// Which.
        connection: ConnectionId,
        /// Where to.
        peer_address: SocketAddr,
        /// When connect() was called, where that is known.
        attempted: Option<Timestamp>,
    },
    /// Data went unacknowledged through `timeouts` retransmission timeouts in a row.
    RetransmissionTimeout {
        /// Which.
        connection: ConnectionId,
        /// How many.
        timeouts: u8,
    },
    /// An attempt failed or a connection ended.
    Ended {
        /// Which.
        connection: ConnectionId,
        /// Where to.
        peer_address: SocketAddr,
        /// When connect() was called; `None` when that was before the agent.
        attempted: Option<Timestamp>,
        /// How far it had come, as far as the kernel half knows.
        phase: Phase,
        /// What ended it.
        how: End,
        /// The errno behind it, 0 where there was none.
        errno: u16,
        /// When data was last received on it; `None` if never.
        heard: Option<Timestamp>,
    },
    /// The answer to [`Output::Sample`](super::Output::Sample). A driver that cannot look does
    /// not answer: `None` says that the connection is gone.
    Sampled {
        /// Which.
        connection: ConnectionId,
        /// `None`: the kernel no longer knows the connection.
        sample: Option<Sample>,
    },
    /// After records were lost, and once at discovery: what is open, and which ends were missed.
    ///
    /// Its time is that of the listing. Records read from the ring before the listing was made
    /// are handed in before it.
    Resynchronised {
        /// All connections that are open.
        open: Vec<OpenConnection>,
        /// The ends whose record never arrived, since the last time.
        missed: MissedEnds,
    },
    /// A connection of another process in the client's network namespace, on the watched
    /// port: a proxy's upstream, or anybody else's.
    Proxy {
        /// Which.
        connection: ConnectionId,
        /// Where to.
        peer_address: SocketAddr,
        /// When connect() was called; `None` when that was before the agent.
        attempted: Option<Timestamp>,
        /// What it has come to.
        event: ProxyEvent,
    },
    /// The client asks a name server.
    LookedUp,
    /// The peer's addresses, those of its Service and its endpoints; `None`: not known.
    PeerAddresses(Option<BTreeSet<IpAddr>>),
    /// From here on evidence about the client may be missing, for this reason. A link without a
    /// live connection is [unknown](crate::State::Unknown) until it is [back](Self::EvidenceBack).
    EvidenceLost(UnknownReason),
    /// Evidence is not missing for this reason any more. What is open has been handed in before, as
    /// a resynchronisation.
    EvidenceBack(UnknownReason),
    /// The pod's last life ended without having been reachable, for this cause. Handed in right
    /// after the discovery: a start-up grace that every life of a crash loop had anew would hide
    /// that the pod has no link.
    FollowsUnreached(Cause),
    /// The agent before this one knew this of the same process. Handed in right after the discovery. An
    /// outage that was under way goes on, unless the link turns out to be reachable within the
    /// start-up grace.
    Inherited(Legacy),
    /// The process is gone: the expected end.
    ProcessEnded,
}

/// What a proxy's connection has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyEvent {
    /// connect() was called.
    Attempted,
    /// The TCP handshake is complete.
    Established,
    /// Data went unacknowledged through retransmission timeouts.
    Stalled,
    /// It failed or ended.
    Ended {
        /// How far it had come.
        phase: Phase,
        /// What ended it.
        how: End,
    },
}

/// One look at one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// TCP's state is ESTABLISHED.
    pub established: bool,
    /// When data was last received; `None` if never.
    pub heard: Option<Timestamp>,
    /// When data was last sent; `None` if never.
    pub sent: Option<Timestamp>,
    /// Something sent is not acknowledged yet.
    pub unacknowledged: bool,
    /// Retransmission timeouts in a row.
    pub timeouts: u8,
    /// Smoothed round-trip time, once there is one.
    pub rtt: Option<Duration>,
}

/// One connection in a listing of all that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenConnection {
    /// Which.
    pub connection: ConnectionId,
    /// Where to.
    pub peer_address: SocketAddr,
    /// When connect() was called; `None` when that was before the agent.
    pub attempted: Option<Timestamp>,
    /// [`Phase::Connecting`] or [`Phase::Established`].
    pub phase: Phase,
}

/// How many ends of each kind happened without their record reaching the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissedEnds {
    counts: [[u32; ENDS]; PHASES],
}

impl MissedEnds {
    /// The counts by [`Phase`] and [`End`], as the kernel half keeps them.
    pub const fn new(counts: [[u32; ENDS]; PHASES]) -> Self {
        Self { counts }
    }

    /// `n` more ends of this kind.
    pub fn add(&mut self, phase: Phase, how: End, n: u32) {
        if let Some(count) = self
            .counts
            .get_mut(phase as usize)
            .and_then(|by_end| by_end.get_mut(how as usize))
        {
            *count = count.saturating_add(n);
        }
    }

    /// Whether nothing was missed.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().flatten().all(|&count| count == 0)
    }

    /// How many of this kind.
    pub fn count(&self, phase: Phase, how: End) -> u32 {
        self.counts
            .get(phase as usize)
            .and_then(|by_end| by_end.get(how as usize))
            .copied()
            .unwrap_or_default()
    }

    /// As many more as `other` has.
    pub(crate) fn add_all(&mut self, other: &Self) {
        let others = other.counts.as_flattened();
        for (count, other) in self.counts.as_flattened_mut().iter_mut().zip(others) {
            *count = count.saturating_add(*other);
        }
    }

    /// Takes one of this kind out, if there is one.
    pub(crate) fn take(&mut self, phase: Phase, how: End) {
        if let Some(count) = self
            .counts
            .get_mut(phase as usize)
            .and_then(|by_end| by_end.get_mut(how as usize))
        {
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_missed_until_something_is() {
        let mut missed = MissedEnds::default();
        assert!(missed.is_empty());
        missed.add(Phase::Held, End::Reset, 1);
        assert!(!missed.is_empty());
    }
}
