//! One connection of a client, as it really is: what the kernel knows of its socket.

use std::{net::SocketAddr, time::Duration};

use statlink_ebpf::{End, Phase};

use crate::{ConnectionId, Input, Sample, time::Timestamp, timings::HOLD};

#[derive(Clone, Debug)]
pub(super) struct Socket {
    pub(super) id: ConnectionId,
    /// `None`: older than the agent.
    pub(super) attempted: Option<Timestamp>,
    pub(super) established: Option<Timestamp>,
    pub(super) answered: Option<Timestamp>,
    pub(super) heard: Option<Timestamp>,
    pub(super) sent: Option<Timestamp>,
    /// When the oldest unacknowledged data was sent.
    pub(super) unacknowledged: Option<Timestamp>,
    /// When the first ping was sent since it was heard.
    pub(super) first_unanswered: Option<Timestamp>,
    pub(super) timeouts: u8,
    pub(super) syns: u32,
    pub(super) stalled: bool,
    /// The machine has heard of it.
    pub(super) known: bool,
}

impl Socket {
    pub(super) fn new(id: ConnectionId, attempted: Timestamp) -> Self {
        Self {
            id,
            attempted: Some(attempted),
            established: None,
            answered: None,
            heard: None,
            sent: None,
            unacknowledged: None,
            first_unanswered: None,
            timeouts: 0,
            syns: 0,
            stalled: false,
            known: false,
        }
    }

    pub(super) fn hear(&mut self, at: Timestamp) {
        self.heard = Some(at);
        self.first_unanswered = None;
    }

    pub(super) fn ended(&self, peer: SocketAddr, phase: Phase, how: End, errno: u16) -> Input {
        Input::Ended {
            connection: self.id,
            peer_address: peer,
            attempted: self.attempted,
            phase,
            how,
            errno,
            heard: self.heard,
        }
    }

    pub(super) fn sample(&self) -> Sample {
        Sample {
            established: self.established.is_some(),
            heard: self.heard,
            sent: self.sent,
            unacknowledged: self.unacknowledged.is_some(),
            timeouts: self.timeouts,
            rtt: Some(Duration::from_millis(1)),
        }
    }

    pub(super) fn phase(&self, now: Timestamp) -> Phase {
        match (self.established, self.heard) {
            (None, _) => Phase::Connecting,
            (Some(established), Some(_)) if established + HOLD <= now => Phase::Held,
            (Some(_), _) => Phase::Established,
        }
    }

    pub(super) fn is_upgraded(&self, now: Timestamp) -> bool {
        self.answered.is_some_and(|answered| answered + HOLD <= now)
    }

    /// When silence becomes a stall; `None` while nothing waits for an answer.
    pub(super) fn silent_at(&self) -> Option<Timestamp> {
        let (heard, sent) = (self.heard?, self.first_unanswered?);
        Some((heard + SILENCE).max(sent + ANSWER_GRACE))
    }

    pub(super) fn is_well(&self, now: Timestamp) -> bool {
        self.timeouts == 0 && self.silent_at().is_none_or(|silent| now < silent)
    }
}

/// A stall, as the client's pings have it: said here once more, so that the link's own numbers are
/// held to it.
const SILENCE: Duration = Duration::from_secs(5);
const ANSWER_GRACE: Duration = Duration::from_millis(1_500);
