//! The give and take on an upgraded connection: when silence becomes a stall.

use crate::{
    time::Timestamp,
    timings::{ANSWER_GRACE, BEFORE_A_PING, LIVE_CADENCE, PONG_DUE, SILENCE},
};

/// When the peer was last heard, and what waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    pub(super) heard: Timestamp,
    /// The earliest known time of sending what may be a ping since; a sample shows only the last.
    unanswered: Option<Timestamp>,
}

impl Pulse {
    /// Nothing was sent since the peer was `heard`.
    pub(super) const fn new(heard: Timestamp) -> Self {
        Self {
            heard,
            unanswered: None,
        }
    }

    /// A look showed this.
    pub(super) fn update(&mut self, heard: Option<Timestamp>, sent: Option<Timestamp>) {
        if let Some(heard) = heard
            && heard > self.heard
        {
            self.heard = heard;
            self.unanswered = None;
        }
        let pinged = sent.filter(|&sent| sent > self.heard + BEFORE_A_PING);
        self.unanswered = self.unanswered.or(pinged);
    }

    /// From when on silence is a stall, if nothing is heard until then; `None` while nothing waits
    /// for an answer.
    pub(super) fn stall_due(&self) -> Option<Timestamp> {
        self.unanswered
            .map(|sent| (self.heard + SILENCE).max(sent + ANSWER_GRACE))
    }

    /// Whether the silence still is a stall at `at`.
    pub(super) fn is_silent(&self, at: Timestamp) -> bool {
        self.unanswered.is_some() && at >= self.heard + SILENCE
    }

    /// When to look next at a connection that is well at `at`.
    pub(super) fn next_look(&self, at: Timestamp) -> Timestamp {
        let pong_due = self.heard + PONG_DUE;
        if at < pong_due {
            return pong_due;
        }
        match self.stall_due() {
            Some(due) if due > at => due,
            Some(_) | None => at + LIVE_CADENCE,
        }
    }
}
