//! One real connection of a client: what the kernel knows of its socket.

use std::{net::SocketAddr, time::Duration};

use statlink_ebpf::{End, Phase};

use super::client::HANDSHAKE;
use crate::{
    ConnectionId, Input, Sample,
    time::Timestamp,
    timings::{CLOSE_ANSWER, HOLD},
};

#[derive(Clone, Debug)]
pub(super) struct Socket {
    pub(super) id: ConnectionId,
    /// `None`: older than the agent.
    pub(super) attempted: Option<Timestamp>,
    pub(super) established: Option<Timestamp>,
    /// When the machine learned that it was established.
    pub(super) known_established: Option<Timestamp>,
    /// A look has shown the answer.
    pub(super) answer_seen: bool,
    pub(super) answered: Option<Timestamp>,
    pub(super) heard: Option<Timestamp>,
    pub(super) sent: Option<Timestamp>,
    /// When the oldest unacknowledged data was sent.
    pub(super) unacknowledged: Option<Timestamp>,
    /// When the first ping was sent after the peer was last heard.
    pub(super) first_unanswered: Option<Timestamp>,
    pub(super) timeouts: u8,
    pub(super) syns: u32,
    pub(super) stalled: bool,
    /// When the client's own silence became a stall.
    pub(super) silent_since: Option<Timestamp>,
    /// The answer is a refusal whose body does not end.
    pub(super) refused: bool,
    /// The dial before was refused like that.
    pub(super) wary: bool,
    /// When the client first sent something after the answer.
    pub(super) proven: Option<Timestamp>,
    /// The machine has heard of it.
    pub(super) known: bool,
}

impl Socket {
    pub(super) fn new(id: ConnectionId, attempted: Timestamp) -> Self {
        Self {
            id,
            attempted: Some(attempted),
            established: None,
            known_established: None,
            answer_seen: false,
            answered: None,
            heard: None,
            sent: None,
            unacknowledged: None,
            first_unanswered: None,
            timeouts: 0,
            syns: 0,
            stalled: false,
            silent_since: None,
            refused: false,
            wary: false,
            proven: None,
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

    pub(super) fn sample(&mut self, now: Timestamp) -> Sample {
        self.is_seen(now);
        self.answer_seen |= self.answered.is_some();
        Sample {
            established: self.established.is_some(),
            heard: self.heard,
            sent: self.sent,
            unacknowledged: self.unacknowledged.is_some(),
            timeouts: self.timeouts,
            rtt: Some(Duration::from_millis(1)),
            looped: false,
        }
    }

    /// The machine sees how far it has come.
    pub(super) fn is_seen(&mut self, now: Timestamp) {
        if self.established.is_some() {
            self.known_established.get_or_insert(now);
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
        let held = self.answered.is_some_and(|answered| answered + HOLD <= now);
        held && (!self.wary || self.proven.is_some())
    }

    /// Whether it counts as upgraded if it ends now: a connection that outlives a refusal was
    /// upgraded.
    pub(super) fn was_upgraded(&self, now: Timestamp) -> bool {
        let held = self.answered.is_some_and(|answered| answered + HOLD <= now);
        self.is_upgraded(now) || held && self.outlives_a_refusal(now)
    }

    /// The same, if the record of its end is lost. The kernel half's phase is the truth then,
    /// except against a handshake that took too long, unless the answer was seen.
    pub(super) fn may_be_upgraded(&self, now: Timestamp) -> bool {
        self.phase(now) == Phase::Held && (!self.is_overdue(now) || self.answer_seen)
    }

    /// Whether its handshake took too long. It has then failed, unless it is upgraded later.
    pub(super) fn is_overdue(&self, now: Timestamp) -> bool {
        let due = self.known_established.map(|known| known + HANDSHAKE);
        let in_time = |due| self.answered.is_some_and(|answered| answered < due);
        due.is_some_and(|due| due <= now && !in_time(due))
    }

    fn outlives_a_refusal(&self, now: Timestamp) -> bool {
        self.attempted
            .is_none_or(|attempted| now > attempted + REFUSAL.1)
    }

    /// Whether a close by the client may be the end of a refusal: one whose body does not end, or one
    /// that is slow.
    pub(super) fn makes_wary(&self, now: Timestamp) -> bool {
        let due = self
            .attempted
            .is_some_and(|attempted| attempted + REFUSAL.0 <= now);
        (due || self.answers_a_close(now)) && self.may_look_refused(now)
    }

    /// Whether a close by the client answers the peer's.
    pub(super) fn answers_a_close(&self, now: Timestamp) -> bool {
        self.heard
            .is_some_and(|heard| now.saturating_since(heard) <= CLOSE_ANSWER)
    }

    /// Whether it may still be a refusal, as far as is seen.
    pub(super) fn may_look_refused(&self, now: Timestamp) -> bool {
        self.proven.is_none() && !self.outlives_a_refusal(now)
    }

    /// The client sends something.
    pub(super) fn send(&mut self, now: Timestamp) {
        self.sent = Some(now);
        if self.answered.is_some_and(|answered| answered + PROOF < now) {
            self.proven.get_or_insert(now);
        }
    }

    /// When silence becomes a stall; `None` while no answer is due.
    pub(super) fn silent_at(&self) -> Option<Timestamp> {
        let (heard, sent) = (self.heard?, self.first_unanswered?);
        Some((heard + SILENCE).max(sent + ANSWER_GRACE))
    }

    /// When silence becomes the client's own stall; `None` while the peer's answer is due.
    pub(super) fn locally_silent_at(&self) -> Option<Timestamp> {
        let last_word = self
            .heard
            .max(self.sent)
            .filter(|_| self.answered.is_some());
        let last_word = last_word.filter(|_| self.first_unanswered.is_none());
        last_word.map(|last_word| last_word + LOCAL_SILENCE)
    }

    pub(super) fn is_well(&self, now: Timestamp) -> bool {
        let silent = [self.silent_at(), self.locally_silent_at()];
        let talks = silent.into_iter().flatten().all(|silent| now < silent);
        let answered = self
            .silent_since
            .is_none_or(|since| self.heard > Some(since));
        self.timeouts == 0 && talks && answered
    }
}

/// When silence is a stall. This repeats the link's number on purpose, to check it.
const SILENCE: Duration = Duration::from_secs(5);
const ANSWER_GRACE: Duration = Duration::from_millis(1_500);
const LOCAL_SILENCE: Duration = Duration::from_secs(12);
/// How long after connect() a client gives up on a refusal whose body does not end.
const REFUSAL: (Duration, Duration) = (Duration::from_millis(2_500), Duration::from_millis(3_300));
/// How long after the answer sent data no longer belongs to the request.
const PROOF: Duration = Duration::from_millis(100);
