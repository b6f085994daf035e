//! Inputs of a link, and the values in them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use statlink_ebpf::{ENDS, End, PHASES, Phase};

use crate::{Cause, Legacy, UnknownReason, time::Timestamp};

/// Identifies one connection for ever: the kernel reuses the address of a `struct sock`, but never
/// with the same birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionId {
    /// Address of the `struct sock`; 0 when connect() failed before a socket was involved.
    pub sock: u64,
    /// When this life of the socket began.
    pub born: Timestamp,
}

/// One input of a link. Its time is passed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// connect() was called at the input's time, and the SYN is about to be sent.
    Attempted {
        /// The connection.
        connection: ConnectionId,
        /// Its destination.
        peer_address: SocketAddr,
    },
    /// The TCP handshake is complete.
    Established {
        /// The connection.
        connection: ConnectionId,
        /// Its destination.
        peer_address: SocketAddr,
        /// When connect() was called, if known.
        attempted: Option<Timestamp>,
    },
    /// Data went unacknowledged through `timeouts` retransmission timeouts in a row.
    RetransmissionTimeout {
        /// The connection.
        connection: ConnectionId,
        /// The number of timeouts.
        timeouts: u8,
    },
    /// An attempt failed or a connection ended.
    Ended {
        /// The connection.
        connection: ConnectionId,
        /// Its destination.
        peer_address: SocketAddr,
        /// When connect() was called; `None` if that was before the agent.
        attempted: Option<Timestamp>,
        /// How far it had come, as far as the kernel half knows.
        phase: Phase,
        /// What ended it.
        how: End,
        /// The errno behind it; 0 if there was none.
        errno: u16,
        /// When data was last received on it; `None` if never.
        heard: Option<Timestamp>,
    },
    /// The answer to [`Output::Sample`](super::Output::Sample). A driver that cannot look does not
    /// answer: an input with `None` says that the connection is gone.
    Sampled {
        /// The connection.
        connection: ConnectionId,
        /// `None`: the kernel no longer knows the connection.
        sample: Option<Sample>,
    },
    /// After records were lost, and once at discovery: the open connections and the missed ends.
    ///
    /// Its time is that of the listing. The driver passes records that were read before the listing
    /// first.
    Resynchronised {
        /// All connections that are open.
        open: Vec<OpenConnection>,
        /// The ends without a record since the last time.
        missed: MissedEnds,
    },
    /// A connection of another process in the client's network namespace on the watched port: a
    /// proxy's upstream connection, or any other.
    Proxy {
        /// The connection.
        connection: ConnectionId,
        /// Its destination.
        peer_address: SocketAddr,
        /// When connect() was called; `None` if that was before the agent.
        attempted: Option<Timestamp>,
        /// What happened to it.
        event: ProxyEvent,
    },
    /// The client asks a name server.
    LookedUp,
    /// The addresses of the peer's Service and endpoints; `None`: not known.
    PeerAddresses(Option<BTreeSet<IpAddr>>),
    /// From now on evidence about the client may be missing, for this reason. A link without a live
    /// connection is [unknown](crate::State::Unknown) until the evidence is
    /// [back](Self::EvidenceBack).
    EvidenceLost(UnknownReason),
    /// Evidence is no longer missing for this reason. The driver has passed the open connections
    /// before, as a resynchronisation.
    EvidenceBack(UnknownReason),
    /// The pod's last life ended without having been reachable, for this cause. Passed right after
    /// the discovery. If every life of a crash loop had a new start-up grace, nobody would see that
    /// the pod has no link.
    FollowsUnreached(Cause),
    /// What the agent before this one knew of the same process. Passed right after the discovery.
    /// An outage that was under way continues, unless the link proves reachable within the start-up
    /// grace.
    Inherited(Legacy),
    /// The agent before this one read the same kernel half, and had counted the dials of these
    /// connections. Handed in before any other: their ends, and what else is to come of them, is this
    /// one's to count.
    Counted(Vec<CountedConnection>),
    /// The process has ended: the expected end.
    ProcessEnded,
}

/// An event of a proxy's connection.
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
    /// Something that the client has written is not acknowledged yet; it may not even be sent.
    pub unacknowledged: bool,
    /// Retransmission timeouts in a row.
    pub timeouts: u8,
    /// Smoothed round-trip time, once there is one.
    pub rtt: Option<Duration>,
    /// Its other end is in the same network namespace, where only a proxy accepts it.
    pub looped: bool,
}

/// One connection in a listing of all that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenConnection {
    /// The connection.
    pub connection: ConnectionId,
    /// Its destination.
    pub peer_address: SocketAddr,
    /// When connect() was called; `None` if that was before the agent.
    pub attempted: Option<Timestamp>,
    /// [`Phase::Connecting`] or [`Phase::Established`].
    pub phase: Phase,
}

/// A connection of which it is counted whether its dial failed, and that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountedConnection {
    /// Which.
    pub connection: ConnectionId,
    /// Where to.
    pub peer_address: SocketAddr,
    /// Since when it is stalled, if it is: it is counted that it was lost, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled: Option<Timestamp>,
}

/// How far a link has come with what it was told, for a successor that is told the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// To be handed in as [`Input::Counted`].
    pub counted: Vec<CountedConnection>,
    /// Ends that it was told, and has not counted yet: they wait for something.
    pub undecided: MissedEnds,
}

impl Progress {
    /// That of another link beside it.
    pub(crate) fn add(&mut self, other: Self) {
        self.counted.extend(other.counted);
        self.undecided.add_all(&other.undecided);
    }
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

    /// Adds `n` ends of this kind.
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

    /// The counts by [`Phase`] and [`End`].
    pub const fn counts(&self) -> &[[u32; ENDS]; PHASES] {
        &self.counts
    }

    /// How many of this kind.
    pub fn count(&self, phase: Phase, how: End) -> u32 {
        self.counts
            .get(phase as usize)
            .and_then(|by_end| by_end.get(how as usize))
            .copied()
            .unwrap_or_default()
    }

    /// Adds the ends of `other`.
    pub(crate) fn add_all(&mut self, other: &Self) {
        let others = other.counts.as_flattened();
        for (count, other) in self.counts.as_flattened_mut().iter_mut().zip(others) {
            *count = count.saturating_add(*other);
        }
    }

    /// Removes one of this kind, if there is one.
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
