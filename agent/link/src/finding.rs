//! Findings: what is certain about connections, passed from their table to the assessment.

use std::{net::SocketAddr, time::Duration};

use statlink_ebpf::{End, Phase};

use crate::{
    Cause,
    connection::{Connection, Upgrade},
    time::Timestamp,
};

/// One thing that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The client dialled this address: a connection to it began, or is known by its end.
    Dialled(SocketAddr),
    /// A connection is live.
    Upgraded { of: Facts, upgrade: Upgrade },
    /// A connection that stalled before this agent has not healed.
    StillStalled,
    /// A stall is over: the connection is live again.
    Healed { of: Facts, at: Timestamp },
    /// An attempt failed.
    AttemptFailed {
        of: Facts,
        at: Timestamp,
        cause: Cause,
        errno: Option<u16>,
    },
    /// A live connection was lost.
    Lost {
        of: Facts,
        at: Timestamp,
        cause: Cause,
        /// Another connection that was live at that moment, or became live since.
        other: Option<Live>,
    },
    /// `number` connections ended like this, and nothing else is known of them.
    EndedUnseen {
        at: Timestamp,
        phase: Phase,
        how: End,
        number: u32,
    },
    /// A dial failed, and another connect() of the same dial succeeded.
    LostRace,
    /// The client has let go of a live connection, and no other one is live, but it keeps dialling.
    LetGo { at: Timestamp },
    /// The client has let go of its last connection, and so of the peer.
    Withdrawn { at: Timestamp },
}

/// What is known of the connection that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) peer: SocketAddr,
    /// When connect() was called, if that was seen.
    pub(crate) attempted: Option<Timestamp>,
    /// The same, or the first moment known of it.
    pub(crate) began: Timestamp,
    /// When the peer answered, if it was upgraded and that was seen.
    pub(crate) answered: Option<Timestamp>,
    /// When the peer was last heard on it.
    pub(crate) heard: Option<Timestamp>,
    /// Whether its other end is in the client's own network namespace, where that is known.
    pub(crate) looped: Option<bool>,
    /// Whether its connect check and its upgrade are the agent's to count.
    pub(crate) counts_connect: bool,
}

/// A connection that is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Live {
    /// `None` if since before the agent.
    pub(crate) since: Option<Timestamp>,
    pub(crate) peer: SocketAddr,
}

impl Facts {
    /// The facts about this connection.
    pub(crate) fn of(connection: &Connection) -> Self {
        Self {
            peer: connection.peer,
            attempted: connection.attempted(),
            began: connection.began(),
            answered: connection.answered(),
            heard: connection.heard(),
            looped: connection.looped(),
            counts_connect: connection.counts_connect(),
        }
    }

    /// From connect() to `end`, if connect() was seen.
    pub(crate) fn duration(&self, end: Timestamp) -> Option<Duration> {
        self.attempted
            .map(|attempted| end.saturating_since(attempted))
    }
}
