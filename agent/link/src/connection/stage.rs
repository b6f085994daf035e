//! The stage of a connection that exists: waiting to be upgraded, for silence, or for its end.

use std::time::Duration;

use statlink_ebpf::Phase;

use super::{handshake::Handshake, pulse::Pulse};
use crate::{
    time::Timestamp,
    timings::{
        CONNECTING_CADENCE, LIVE_CADENCE, OVERDUE_CADENCE, STALLED_CADENCE, UNANSWERED_CADENCE,
    },
};

/// What a connection waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// To be upgraded.
    Handshake(Handshake),
    /// Upgraded and well: waits for silence, or for its end.
    Live {
        /// `None` if since before the agent.
        since: Option<Timestamp>,
        pulse: Pulse,
        /// The peer's answer, until the client has sent something after it: until then it may be a
        /// refusal whose end the client waits for.
        unproven: Option<Timestamp>,
    },
    /// Upgraded, then lost to a stall or because of its address: waits to heal, or for its end.
    Stalled {
        onset: Timestamp,
        pulse: Pulse,
        /// Only an answer ends it: the client itself is silent, or the stall is older than the
        /// agent.
        until_heard: bool,
    },
}

impl Stage {
    /// Whether it may be the loser of a race between several connect()s of one dial, if it ends
    /// now: the client closes late ones, or they fail by themselves.
    pub(super) fn may_have_lost(self, is_local: bool) -> bool {
        match self {
            Stage::Handshake(Handshake::Connecting) => true,
            Stage::Handshake(Handshake::Unanswered { failed, .. }) => is_local && !failed,
            Stage::Handshake(Handshake::Answered { .. })
            | Stage::Live { .. }
            | Stage::Stalled { .. } => false,
        }
    }

    /// Since when it is live, if it is; an inner `None` is longer than the agent knows.
    pub(super) fn live_since(self) -> Option<Option<Timestamp>> {
        match self {
            Stage::Live { since, .. } => Some(since),
            Stage::Handshake(_) | Stage::Stalled { .. } => None,
        }
    }

    /// Since when it is stalled, if it is.
    pub(super) fn stalled(self) -> Option<Timestamp> {
        match self {
            Stage::Stalled { onset, .. } => Some(onset),
            Stage::Live { .. } | Stage::Handshake(_) => None,
        }
    }

    /// What it waits for, if it is not upgraded yet.
    pub(super) fn handshake(self) -> Option<Handshake> {
        match self {
            Stage::Handshake(handshake) => Some(handshake),
            Stage::Live { .. } | Stage::Stalled { .. } => None,
        }
    }

    /// How far it is known to have come.
    pub(super) fn progress(self) -> Phase {
        match self {
            Stage::Handshake(Handshake::Connecting) => Phase::Connecting,
            Stage::Handshake(Handshake::Unanswered { .. } | Handshake::Answered { .. }) => {
                Phase::Established
            }
            Stage::Live { .. } | Stage::Stalled { .. } => Phase::Held,
        }
    }

    /// When the peer was last heard on it.
    pub(super) fn heard(self) -> Option<Timestamp> {
        match self {
            Stage::Handshake(Handshake::Connecting | Handshake::Unanswered { .. }) => None,
            Stage::Handshake(Handshake::Answered { answered, .. }) => Some(answered),
            Stage::Live { pulse, .. } | Stage::Stalled { pulse, .. } => Some(pulse.heard),
        }
    }

    /// How soon to ask again when a sample did not come, or did not find it.
    pub(super) fn cadence(self) -> Duration {
        match self {
            Stage::Handshake(Handshake::Connecting) => CONNECTING_CADENCE,
            Stage::Handshake(Handshake::Unanswered { failed: true, .. }) => OVERDUE_CADENCE,
            Stage::Handshake(Handshake::Unanswered { .. } | Handshake::Answered { .. }) => {
                UNANSWERED_CADENCE
            }
            Stage::Live { .. } => LIVE_CADENCE,
            Stage::Stalled { .. } => STALLED_CADENCE,
        }
    }
}
