//! One connection of a link: how far it has come, and what a look at it or its end tells.
//!
//! What that means for the link (counts, outages, causes) is decided in `tracking`.

use std::{net::SocketAddr, time::Duration};

use statlink_ebpf::{End, HOLD_NS, Phase, STALL_TIMEOUTS};

use super::{Cause, ConnectionId, Sample, end, standing::Standing, timers::next_on_grid};
use crate::time::Timestamp;

/// One connection that is tracked.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) peer: SocketAddr,
    /// When connect() was called, where that was seen.
    attempted: Option<Timestamp>,
    attempt: Attempt,
    state: State,
    standing: Standing,
    /// Since when looks find it gone although no end was told: the record is late, or lost.
    vanished: Option<Timestamp>,
    rtt: Option<Duration>,
}

/// Where the connect check of a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// Not decided.
    Open,
    /// Decided against, and the connection is still there: the handshake took too long.
    Failed,
    /// Older than the agent: not the agent's to decide.
    Older,
    /// Older than the agent, and the handshake took too long.
    OlderFailed,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug)]
enum State {
    /// The answer to the SYN.
    Connecting { next_sample: Timestamp },
    /// The peer's first data.
    Unanswered {
        /// When it was established, or an earlier moment where that is not known.
        established: Timestamp,
        /// When the handshake takes too long.
        overdue: Timestamp,
        next_sample: Timestamp,
    },
    /// Being held open for long enough after that.
    Answered {
        answered: Timestamp,
        next_sample: Timestamp,
    },
    /// Upgraded and well: waits for silence, or for its end.
    Live {
        /// `None`: since before the agent.
        since: Option<Timestamp>,
        pulse: Pulse,
    },
    /// Upgraded, lost to a stall: waits to heal, or for its end.
    Stalled { onset: Timestamp, pulse: Pulse },
    /// Closed by this side: waits whether the process turns out to have been ending.
    Closed {
        /// Since when it had been live, if it was; as in `Live`.
        since: Option<Timestamp>,
        at: Timestamp,
        verdict: Verdict,
        until: Timestamp,
    },
}

/// The give and take on an upgraded connection.
#[derive(Clone, Copy, Debug)]
struct Pulse {
    heard: Timestamp,
    /// The earliest known time of sending what may be a ping since; a sample tells only the last.
    unanswered: Option<Timestamp>,
    next_sample: Timestamp,
}

/// One step that a look at a connection told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    HandshakeFailed {
        at: Timestamp,
    },
    /// It would be upgraded, if it went to the peer.
    Misled {
        answered: Timestamp,
    },
    Upgraded {
        answered: Timestamp,
    },
    Stalled {
        onset: Timestamp,
    },
    Healed {
        at: Timestamp,
    },
}

/// What the end of a connection comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: what there was to count has been counted.
    Nothing,
    /// The attempt failed.
    Failed { cause: Cause, errno: Option<u16> },
    /// A live connection was lost.
    Lost { cause: Cause },
}

impl Verdict {
    /// The same, where the end [answers](Ending::answers_a_close) a close of the peer's.
    pub(super) const fn by_the_peer(self) -> Self {
        match self {
            Self::Lost {
                cause: Cause::LocalClosed,
            } => Self::Lost {
                cause: Cause::PeerClosed,
            },
            Self::Nothing | Self::Failed { .. } | Self::Lost { .. } => self,
        }
    }
}

impl Ending {
    /// Whether it comes so soon after the peer was heard that it answers the peer's close: a
    /// websocket's server says in a close frame that it closes, and a quick client's FIN overtakes
    /// the server's own.
    pub(super) fn answers_a_close(&self) -> bool {
        let heard = self.heard.filter(|_| self.how == End::LocalClosed);
        heard.is_some_and(|heard| self.at.saturating_since(heard) <= CLOSING_HANDSHAKE)
    }
}

/// What falls due on a connection. At the same moment, verdicts come before looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The close has settled.
    Settle,
    /// The doubt about its address is over.
    Condemn,
    /// It stayed gone without its end being told.
    Gone,
    /// It is to be sampled.
    Sample,
}

/// What the kernel half tells at the end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) at: Timestamp,
    pub(super) phase: Phase,
    pub(super) how: End,
    pub(super) errno: u16,
    pub(super) heard: Option<Timestamp>,
}

impl Connection {
    /// An attempt whose SYN is on its way.
    pub(super) fn connecting(
        id: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
    ) -> Self {
        Self {
            id,
            peer,
            attempted,
            attempt: Attempt::Open,
            state: State::Connecting {
                next_sample: attempted.unwrap_or(id.born) + CONNECTING_CADENCE,
            },
            standing: Standing::Unknown,
            vanished: None,
            rtt: None,
        }
    }

    /// A connection found established at `found`, older than the agent.
    pub(super) fn older(id: ConnectionId, peer: SocketAddr, found: Timestamp) -> Self {
        Self {
            attempt: Attempt::Older,
            state: State::Unanswered {
                established: Timestamp::default(),
                overdue: found + HANDSHAKE,
                next_sample: found,
            },
            ..Self::connecting(id, peer, None)
        }
    }

    /// The connection was established no earlier than `earliest` and no later than `latest`; no
    /// news unless its SYN was waiting.
    pub(super) fn establish(
        &mut self,
        earliest: Timestamp,
        latest: Timestamp,
        next_sample: Timestamp,
        attempted: Option<Timestamp>,
    ) {
        self.attempted = self.attempted.or(attempted);
        match self.state {
            State::Connecting { .. } => {
                self.state = State::Unanswered {
                    established: earliest,
                    overdue: latest + HANDSHAKE,
                    next_sample,
                };
            }
            State::Unanswered { .. }
            | State::Answered { .. }
            | State::Live { .. }
            | State::Stalled { .. }
            | State::Closed { .. } => {}
        }
    }

    /// What falls due next on it, and when.
    pub(super) fn due(&self) -> Option<(Timestamp, Due)> {
        match self.standing {
            Standing::Doubtful {
                until,
                ended: Some(_),
            } => Some((until, Due::Condemn)),
            Standing::Doubtful { until, ended: None } => {
                let condemn = (until, Due::Condemn);
                Some(self.due_by_state().map_or(condemn, |due| due.min(condemn)))
            }
            Standing::Unknown | Standing::Right | Standing::Wrong => self.due_by_state(),
        }
    }

    fn due_by_state(&self) -> Option<(Timestamp, Due)> {
        let sample = match &self.state {
            State::Closed { until, .. } => return Some((*until, Due::Settle)),
            State::Connecting { next_sample }
            | State::Unanswered { next_sample, .. }
            | State::Answered { next_sample, .. } => *next_sample,
            State::Live { pulse, .. } | State::Stalled { pulse, .. } => pulse.next_sample,
        };
        let gone = self.vanished.map(|since| (since + VANISHED, Due::Gone));
        let sample = (sample, Due::Sample);
        Some(gone.map_or(sample, |gone| gone.min(sample)))
    }

    /// It has been asked for a sample: until that comes, ask again at the cadence of its state.
    pub(super) fn asked(&mut self, now: Timestamp) {
        let cadence = self.cadence();
        if let Some(next_sample) = self.next_sample_mut() {
            *next_sample = next_on_grid(*next_sample, cadence, now);
        }
    }

    /// A look at it, at `at`, found it, but not established: nothing new where it was not before,
    /// and else as good as gone.
    pub(super) fn not_established(&mut self, at: Timestamp) {
        if !matches!(self.state, State::Connecting { .. }) {
            self.missing(at);
        }
    }

    /// A look at it, at `at`, did not find it: its end is probably on its way.
    pub(super) fn missing(&mut self, at: Timestamp) {
        let cadence = self.cadence();
        if let Some(next_sample) = self.next_sample_mut() {
            *next_sample = at + cadence;
            self.vanished.get_or_insert(at);
        }
    }

    /// A look at it, at `at`, found it established. To be called until it tells of nothing more.
    pub(super) fn look(&mut self, at: Timestamp, sample: &Sample) -> Option<Step> {
        self.vanished = None;
        self.rtt = sample.rtt.or(self.rtt);
        // The conversion from the kernel's ticks may be off by one.
        let heard = sample.heard.map(|heard| heard.min(at));
        match &mut self.state {
            State::Connecting { .. } => {
                self.establish(self.attempted.unwrap_or(at), at, at, None);
                self.look(at, sample)
            }
            State::Unanswered {
                established,
                overdue,
                next_sample,
            } => {
                let (established, overdue) = (*established, *overdue);
                if heard.unwrap_or(at) >= overdue && self.attempt.fail() {
                    return Some(Step::HandshakeFailed { at: overdue });
                }
                let Some(heard) = heard else {
                    *next_sample = match self.attempt {
                        // The deadline is a moment to look at, whatever the cadence.
                        Attempt::Open | Attempt::Older => (at + UNANSWERED_CADENCE).min(overdue),
                        Attempt::Failed | Attempt::OlderFailed => at + OVERDUE_CADENCE,
                    };
                    return None;
                };
                self.state = State::Answered {
                    answered: heard.max(established),
                    next_sample: at,
                };
                self.look(at, sample)
            }
            State::Answered {
                answered,
                next_sample,
            } => {
                let answered = *answered;
                if at < answered + HOLD {
                    *next_sample = answered + HOLD;
                    return None;
                }
                match self.standing {
                    Standing::Unknown | Standing::Right => {}
                    Standing::Doubtful { until, .. } => {
                        *next_sample = until.max(at + LIVE_CADENCE);
                        return None;
                    }
                    Standing::Wrong => {
                        *next_sample = at + LIVE_CADENCE;
                        return self.attempt.fail().then_some(Step::Misled { answered });
                    }
                }
                self.upgrade(answered, heard.unwrap_or(answered), at);
                Some(Step::Upgraded { answered })
            }
            State::Live { since, pulse } => {
                pulse.update(heard, sample.sent);
                let broken = sample.unacknowledged && sample.timeouts >= STALL_TIMEOUTS;
                let onset = if broken {
                    at
                } else {
                    match pulse.stall_due() {
                        Some(due) if due <= at => due,
                        due => {
                            pulse.next_sample = pulse.next_look(at, due);
                            return None;
                        }
                    }
                };
                let onset = since.map_or(onset, |since| onset.max(since));
                let pulse = pulse.next(at + STALLED_CADENCE);
                self.state = State::Stalled { onset, pulse };
                Some(Step::Stalled { onset })
            }
            State::Stalled { onset, pulse } => {
                pulse.update(heard, sample.sent);
                pulse.next_sample = at + STALLED_CADENCE;
                let wrong = matches!(self.standing, Standing::Wrong);
                let broken = sample.unacknowledged && sample.timeouts > 0;
                let silent = pulse.unanswered.is_some() && at >= pulse.heard + SILENCE;
                if wrong || broken || silent {
                    return None;
                }
                let healed = if pulse.heard > *onset {
                    pulse.heard
                } else {
                    at.max(*onset)
                };
                let mut pulse = *pulse;
                pulse.next_sample = pulse.next_look(at, pulse.stall_due());
                self.state = State::Live {
                    since: Some(healed),
                    pulse,
                };
                Some(Step::Healed { at: healed })
            }
            State::Closed { .. } => None,
        }
    }

    /// Data on it went unacknowledged through `timeouts` retransmission timeouts: the onset of
    /// the stall, if that is one.
    pub(super) fn retransmission_timeout(
        &mut self,
        at: Timestamp,
        timeouts: u8,
    ) -> Option<Timestamp> {
        match self.state {
            State::Live { since, pulse } if timeouts >= STALL_TIMEOUTS => {
                let onset = since.map_or(at, |since| at.max(since));
                let pulse = pulse.next(at + STALLED_CADENCE);
                self.state = State::Stalled { onset, pulse };
                Some(onset)
            }
            // Before the upgrade, the handshake's own deadline decides.
            State::Live { .. }
            | State::Connecting { .. }
            | State::Unanswered { .. }
            | State::Answered { .. }
            | State::Stalled { .. }
            | State::Closed { .. } => None,
        }
    }

    /// Whether an end tells that it had been upgraded before, unseen: the moment of the answer.
    pub(super) fn upgraded_before(&mut self, ending: &Ending) -> Option<Timestamp> {
        if let Standing::Doubtful { .. } | Standing::Wrong = self.standing {
            return None;
        }
        let at = ending.at;
        let held = match ending.phase {
            Phase::Held => true,
            Phase::Established => false,
            // The kernel half may know less than was told already, but then no more.
            Phase::Connecting => return None,
        };
        // Does nothing unless the record of its establishment was lost, or is late.
        self.establish(self.attempted.unwrap_or(at).min(at), at, at, None);
        let upgraded = match self.state {
            State::Unanswered { established, .. } => match (ending.heard, self.attempt) {
                (Some(heard), _) if heard.max(established) + HOLD <= at => {
                    Some(heard.max(established))
                }
                // What it heard just before the end may be the peer's good-bye. It had been
                // held if it lived for longer than any client waits for an answer.
                (Some(_), Attempt::Open) if held && established + HANDSHAKE < at => {
                    Some(established)
                }
                (Some(heard), Attempt::Older) if held => Some(heard),
                (None, Attempt::Open) if held => Some(established),
                (None, Attempt::Older) if held => Some(at),
                (Some(_) | None, _) => None,
            },
            // Where only the phase is known, the end may be older than its date.
            State::Answered { answered, .. }
                if held && ending.heard.is_none()
                    || answered + HOLD <= at && ending.heard.is_some() =>
            {
                Some(answered)
            }
            State::Answered { answered, .. } if held && self.attempt == Attempt::Older => {
                Some(answered)
            }
            State::Connecting { .. }
            | State::Answered { .. }
            | State::Live { .. }
            | State::Stalled { .. }
            | State::Closed { .. } => None,
        };
        let answered = upgraded?.min(at);
        self.upgrade(answered, answered, at);
        Some(answered)
    }

    /// What its end comes to.
    pub(super) fn verdict(&self, how: End, errno: u16) -> Verdict {
        let errno = (errno != 0).then_some(errno);
        let failed = |cause| Verdict::Failed {
            cause: if self.is_wrong() {
                Cause::WrongPeer
            } else {
                cause
            },
            errno,
        };
        match &self.state {
            State::Connecting { .. } => failed(end::of_connecting(how)),
            State::Unanswered { .. } | State::Answered { .. } => match self.attempt {
                Attempt::Open | Attempt::Older => failed(end::of_handshaking(how)),
                Attempt::Failed | Attempt::OlderFailed => Verdict::Nothing,
            },
            State::Live { .. } => Verdict::Lost {
                cause: end::of_live(how),
            },
            State::Stalled { .. } => Verdict::Nothing,
            State::Closed { verdict, .. } => *verdict,
        }
    }

    /// This side closed it at `at`: keep the verdict for the time to `settle`, until it is known
    /// whether the process was ending.
    pub(super) fn close(&mut self, at: Timestamp, verdict: Verdict, settle: Duration) {
        self.vanished = None;
        // Where it went has had its part in the verdict.
        if let Standing::Doubtful { .. } = self.standing {
            self.standing = Standing::Unknown;
        }
        let since = match self.state {
            State::Live { since, .. } => since,
            State::Connecting { .. }
            | State::Unanswered { .. }
            | State::Answered { .. }
            | State::Stalled { .. }
            | State::Closed { .. } => None,
        };
        self.state = State::Closed {
            since,
            at,
            verdict,
            until: at + settle,
        };
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// It stands so from now on.
    pub(super) fn stand(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// It goes to the peer after all, as is known at `at`: its end, if it waited for that.
    pub(super) fn acquit(&mut self, standing: Standing, at: Timestamp) -> Option<Ending> {
        let held = self.held();
        self.standing = standing;
        if let Some(next_sample) = self.next_sample_mut() {
            *next_sample = (*next_sample).min(at);
        }
        held
    }

    /// It does not go to the peer, as is decided at `at`; whether it was live until then.
    pub(super) fn condemn(&mut self, at: Timestamp) -> bool {
        self.standing = Standing::Wrong;
        if let Some(next_sample) = self.next_sample_mut() {
            *next_sample = (*next_sample).min(at);
        }
        let State::Live { pulse, .. } = self.state else {
            return false;
        };
        let pulse = pulse.next(at + STALLED_CADENCE);
        self.state = State::Stalled { onset: at, pulse };
        true
    }

    pub(super) fn is_wrong(&self) -> bool {
        matches!(self.standing, Standing::Wrong)
    }

    /// Keeps its end until the doubt about its address is over; `false` if there is none, or if
    /// it was live, which is no attempt any more.
    pub(super) fn hold(&mut self, ending: &Ending) -> bool {
        match (&mut self.standing, &self.state) {
            (
                Standing::Doubtful { ended, .. },
                State::Connecting { .. } | State::Unanswered { .. } | State::Answered { .. },
            ) => {
                *ended = Some(*ending);
                true
            }
            _ => false,
        }
    }

    /// The end that is kept until the doubt about its address is over.
    pub(super) fn held(&self) -> Option<Ending> {
        match self.standing {
            Standing::Doubtful { ended, .. } => ended,
            Standing::Unknown | Standing::Right | Standing::Wrong => None,
        }
    }

    /// When it ended, if the verdict is still kept.
    pub(super) fn closed(&self) -> Option<Timestamp> {
        if let Some(ending) = self.held() {
            return Some(ending.at);
        }
        match self.state {
            State::Closed { at, .. } => Some(at),
            State::Connecting { .. }
            | State::Unanswered { .. }
            | State::Answered { .. }
            | State::Live { .. }
            | State::Stalled { .. } => None,
        }
    }

    /// Since when looks find it gone.
    pub(super) fn vanished(&self) -> Option<Timestamp> {
        self.vanished
    }

    /// How far it is known to have come; `None` once closed.
    pub(super) fn progress(&self) -> Option<Phase> {
        match self.state {
            State::Connecting { .. } => Some(Phase::Connecting),
            State::Unanswered { .. } | State::Answered { .. } => Some(Phase::Established),
            State::Live { .. } | State::Stalled { .. } => Some(Phase::Held),
            State::Closed { .. } => None,
        }
    }

    /// From when until when it is or was live: a close that has not settled bounds it, and
    /// `None` is longer than the agent knows.
    pub(super) fn live_span(&self) -> Option<(Option<Timestamp>, Option<Timestamp>)> {
        match self.state {
            State::Live { since, .. } => Some((since, None)),
            State::Closed {
                since,
                at,
                verdict: Verdict::Lost { .. },
                ..
            } => Some((since, Some(at))),
            State::Connecting { .. }
            | State::Unanswered { .. }
            | State::Answered { .. }
            | State::Stalled { .. }
            | State::Closed { .. } => None,
        }
    }

    /// Whether it is open and live.
    pub(super) fn is_open_and_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    /// When connect() was called, or the first that is known of it.
    pub(super) fn began(&self) -> Timestamp {
        self.attempted.unwrap_or(self.id.born)
    }

    /// When the peer was last heard on it, if it is open.
    pub(super) fn heard(&self) -> Option<Timestamp> {
        if self.held().is_some() {
            return None;
        }
        match &self.state {
            State::Answered { answered, .. } => Some(*answered),
            State::Live { pulse, .. } | State::Stalled { pulse, .. } => Some(pulse.heard),
            State::Connecting { .. } | State::Unanswered { .. } | State::Closed { .. } => None,
        }
    }

    /// Whether its connect check, and its upgrade, are the agent's to count.
    pub(super) fn counts_connect(&self) -> bool {
        match self.attempt {
            Attempt::Open | Attempt::Failed => true,
            Attempt::Older | Attempt::OlderFailed => false,
        }
    }

    /// Whether its connect check has been decided against.
    pub(super) fn has_failed(&self) -> bool {
        match self.attempt {
            Attempt::Failed | Attempt::OlderFailed => true,
            Attempt::Open | Attempt::Older => false,
        }
    }

    /// From connect() to `end`, where connect() was seen.
    pub(super) fn duration(&self, end: Timestamp) -> Option<Duration> {
        self.attempted
            .map(|attempted| end.saturating_since(attempted))
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Upgraded, dated by the answer.
    fn upgrade(&mut self, answered: Timestamp, heard: Timestamp, next_sample: Timestamp) {
        let since = match self.attempt {
            Attempt::Open | Attempt::Failed | Attempt::OlderFailed => Some(answered),
            Attempt::Older => None,
        };
        self.state = State::Live {
            since,
            pulse: Pulse {
                heard: heard.max(answered),
                unanswered: None,
                next_sample,
            },
        };
    }

    /// How soon to ask again when a sample did not come, or did not find it.
    fn cadence(&self) -> Duration {
        match (&self.state, self.has_failed()) {
            (State::Unanswered { .. }, true) => OVERDUE_CADENCE,
            (State::Unanswered { .. }, false) => UNANSWERED_CADENCE,
            (State::Answered { .. }, _) => UNANSWERED_CADENCE,
            (State::Live { .. }, _) => LIVE_CADENCE,
            (State::Stalled { .. }, _) => STALLED_CADENCE,
            (State::Connecting { .. }, _) => CONNECTING_CADENCE,
            (State::Closed { .. }, _) => LIVE_CADENCE,
        }
    }

    fn next_sample_mut(&mut self) -> Option<&mut Timestamp> {
        match &mut self.state {
            State::Connecting { next_sample }
            | State::Unanswered { next_sample, .. }
            | State::Answered { next_sample, .. } => Some(next_sample),
            State::Live { pulse, .. } | State::Stalled { pulse, .. } => {
                Some(&mut pulse.next_sample)
            }
            State::Closed { .. } => None,
        }
    }
}

impl Attempt {
    /// The handshake took too long; `false` if that is no news.
    fn fail(&mut self) -> bool {
        match self {
            Self::Open => *self = Self::Failed,
            Self::Older => *self = Self::OlderFailed,
            Self::Failed | Self::OlderFailed => return false,
        }
        true
    }
}

impl Pulse {
    fn update(&mut self, heard: Option<Timestamp>, sent: Option<Timestamp>) {
        if let Some(heard) = heard
            && heard > self.heard
        {
            self.heard = heard;
            self.unanswered = None;
        }
        let pinged = sent.filter(|&sent| sent > self.heard + BEFORE_A_PING);
        self.unanswered = self.unanswered.or(pinged);
    }

    /// From when on its silence is a stall, if nothing is heard until then; `None` while nothing
    /// waits for an answer.
    ///
    /// An activator that was starved sends its first ping after a long pause: the peer gets a
    /// moment to answer it.
    fn stall_due(&self) -> Option<Timestamp> {
        self.unanswered
            .map(|sent| (self.heard + SILENCE).max(sent + ANSWER_GRACE))
    }

    /// When to look next at a connection that is well at `at`.
    fn next_look(&self, at: Timestamp, stall_due: Option<Timestamp>) -> Timestamp {
        let pong_due = self.heard + PONG_DUE;
        if at < pong_due {
            pong_due
        } else {
            match stall_due {
                Some(due) if due > at => due,
                Some(_) | None => at + LIVE_CADENCE,
            }
        }
    }

    fn next(self, next_sample: Timestamp) -> Self {
        Self {
            next_sample,
            ..self
        }
    }
}

/// How long after its answer a connection must be held to count as upgraded.
pub(super) const HOLD: Duration = Duration::from_nanos(HOLD_NS);
/// How long the peer may take for its first data: the client's own handshake timeout. Decided by
/// the first look after it, for only a look tells that nothing came.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// When to look for the first time: a sample tells only the last answer, and what the peer says
/// next (a pong, whenever the activator pings) must not be taken for the first.
pub(super) const FIRST_LOOK: Duration = Duration::from_millis(20);
/// How often to look whether a dial that takes long is over: no record but the one of its end
/// would tell otherwise, and a program that was interrupted by itself leaves none (`bpf_trace_run`,
/// `kernel/trace/bpf_trace.c`).
const CONNECTING_CADENCE: Duration = Duration::from_secs(1);
/// How often to look for the peer's first data.
const UNANSWERED_CADENCE: Duration = Duration::from_millis(100);
/// The same, once the handshake has failed: only a curious client still waits.
const OVERDUE_CADENCE: Duration = Duration::from_millis(500);
/// A healthy connection hears a pong every 3.33 s: look when it should have come.
const PONG_DUE: Duration = Duration::from_millis(3_500);
/// How often to look at a live connection on which nothing was sent.
const LIVE_CADENCE: Duration = Duration::from_millis(500);
/// How often to look whether a stall has healed.
const STALLED_CADENCE: Duration = Duration::from_millis(200);
/// Without a word from the peer for this long, though spoken to, a connection is stalled.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the peer may take to answer before silence is a stall.
const ANSWER_GRACE: Duration = Duration::from_millis(1_500);
/// What is sent so soon after the peer was heard is no ping: those go every 3.33 s, and each is
/// answered, which may take a moment. Stats are not answered. And Knative's `Shutdown()`
/// (`websocket/connection.go` of knative.dev/pkg) sends nothing more for the 10 s that its reader
/// takes to give up: silence that is none of the peer's.
pub(super) const BEFORE_A_PING: Duration = Duration::from_millis(3_200);
/// How long the record of an end may be late, once looks find the connection gone.
const VANISHED: Duration = Duration::from_secs(1);
/// A close by this side so soon after the peer was heard answers it.
pub(super) const CLOSING_HANDSHAKE: Duration = Duration::from_millis(30);
