//! A connection that exists, as far as is known: what it waits for, and what a look at it shows.

use statlink_ebpf::{End, Phase, STALL_TIMEOUTS};

use super::{
    ending::{Ending, Verdict},
    handshake::{Handshake, Origin},
    pulse::Pulse,
    stage::Stage,
};
use crate::{
    Cause, Sample,
    address_check::AddressCheck,
    time::Timestamp,
    timings::{
        AFTER_THE_ANSWER, CONNECTING_CADENCE, HANDSHAKE, HOLD, LIVE_CADENCE, OVERDUE_CADENCE,
        PROOF_CADENCE, REFUSAL_BEGINS_TO_END, REFUSAL_ENDS, STALLED_CADENCE, UNANSWERED_CADENCE,
        VANISHED,
    },
};

/// A connection that exists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) stage: Stage,
    pub(super) address: AddressCheck,
    next_sample: Timestamp,
    /// The dial before was answered, held and then refused: this one counts only once the client
    /// has sent something after the answer.
    wary: bool,
    /// Since when looks find it gone without a record of its end, which is late or lost.
    pub(super) vanished: Option<Timestamp>,
}

/// One step shown by a look at a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    HandshakeFailed {
        at: Timestamp,
    },
    /// It would be upgraded if its destination were the peer.
    Misled {
        answered: Timestamp,
    },
    Upgraded(Upgrade),
    Stalled {
        onset: Timestamp,
        cause: Cause,
    },
    /// It stalled before this agent, and that was reported.
    StillStalled,
    Healed {
        at: Timestamp,
    },
}

/// A connection was upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Upgrade {
    /// The moment of the peer's answer.
    pub(crate) answered: Timestamp,
    /// Since when it is live; `None` if since before the agent.
    pub(crate) since: Option<Timestamp>,
    /// When the peer was last heard.
    pub(crate) heard: Timestamp,
    /// Its connect check had failed before.
    pub(crate) had_failed: bool,
}

impl Open {
    /// An attempt whose SYN was sent at `began`.
    pub(super) fn connecting(began: Timestamp) -> Self {
        Self {
            stage: Stage::Handshake(Handshake::Connecting),
            address: AddressCheck::Unknown,
            next_sample: began + CONNECTING_CADENCE,
            wary: false,
            vanished: None,
        }
    }

    /// As if it had not ended: its destination is known now, and its end must be judged by it.
    pub(super) fn reopened(handshake: Handshake, address: AddressCheck) -> Self {
        Self {
            stage: Stage::Handshake(handshake),
            address,
            next_sample: Timestamp::default(),
            wary: false,
            vanished: None,
        }
    }

    /// Established between `earliest` and `latest`. No change unless it was waiting for the answer
    /// to its SYN.
    pub(super) fn establish(
        &mut self,
        earliest: Timestamp,
        latest: Timestamp,
        next_sample: Timestamp,
    ) {
        if let Stage::Handshake(Handshake::Connecting) = self.stage {
            self.stage = Stage::Handshake(Handshake::Unanswered {
                unheard: earliest,
                overdue: latest + HANDSHAKE,
                failed: false,
            });
            self.next_sample = next_sample;
        }
    }

    /// What is due next on it: it stays gone, or must be sampled.
    pub(super) fn gone_due(&self) -> Option<Timestamp> {
        self.vanished.map(|since| since + VANISHED)
    }

    pub(super) fn next_sample(&self) -> Timestamp {
        self.next_sample
    }

    /// Schedules a look by `at`.
    pub(super) fn look_by(&mut self, at: Timestamp) {
        self.next_sample = self.next_sample.min(at);
    }

    /// A sample was requested: until it comes, ask again at the cadence of its stage.
    pub(super) fn asked(&mut self, now: Timestamp) {
        self.next_sample = self.next_sample.next_on_grid(self.stage.cadence(), now);
    }

    /// A look at `at` found it, but not established. That changes nothing if it was not established
    /// before; otherwise it is as good as gone.
    pub(super) fn not_established(&mut self, at: Timestamp) {
        if !matches!(self.stage, Stage::Handshake(Handshake::Connecting)) {
            self.missing(at);
        }
    }

    /// A look at `at` did not find it: its end is probably on its way.
    pub(super) fn missing(&mut self, at: Timestamp) {
        self.next_sample = at + self.stage.cadence();
        self.vanished.get_or_insert(at);
    }

    /// A look at `at` found it established. Call it until it returns no further step.
    pub(super) fn look(&mut self, origin: Origin, at: Timestamp, sample: &Sample) -> Option<Step> {
        self.vanished = None;
        // The conversion from the kernel's ticks may be off by one.
        let heard = sample.heard.map(|heard| heard.min(at));
        match self.stage {
            Stage::Handshake(Handshake::Connecting) => {
                self.establish(origin.attempted.unwrap_or(at), at, at);
                self.look(origin, at, sample)
            }
            Stage::Handshake(Handshake::Unanswered {
                unheard,
                overdue,
                failed,
            }) => {
                if heard.unwrap_or(at) >= overdue && !failed {
                    self.stage = Stage::Handshake(Handshake::Unanswered {
                        unheard,
                        overdue,
                        failed: true,
                    });
                    return Some(Step::HandshakeFailed { at: overdue });
                }
                let Some(heard) = heard else {
                    self.stage = Stage::Handshake(Handshake::Unanswered {
                        unheard: unheard.max(at),
                        overdue,
                        failed,
                    });
                    self.next_sample = if failed {
                        at + OVERDUE_CADENCE
                    } else {
                        // Also look at the deadline, whatever the cadence.
                        (at + UNANSWERED_CADENCE).min(overdue)
                    };
                    return None;
                };
                self.stage = Stage::Handshake(Handshake::Answered {
                    answered: heard.max(unheard),
                    failed,
                });
                self.next_sample = at;
                self.look(origin, at, sample)
            }
            Stage::Handshake(Handshake::Answered { answered, failed }) => {
                if at < answered + HOLD {
                    self.next_sample = answered + HOLD;
                    return None;
                }
                match self.address {
                    AddressCheck::Unknown | AddressCheck::Right
                        if self.wary && !is_proof(sample.sent, answered) =>
                    {
                        self.next_sample = at + LIVE_CADENCE;
                        None
                    }
                    AddressCheck::Unknown | AddressCheck::Right => {
                        let heard = heard.unwrap_or(answered);
                        if let Some(onset) = origin.was_lost_before(Some(heard)) {
                            self.stall(onset, at, Pulse::new(heard), true);
                            return Some(Step::StillStalled);
                        }
                        let upgrade = self.upgrade(origin, answered, heard, failed);
                        self.next_sample = at;
                        Some(Step::Upgraded(upgrade))
                    }
                    AddressCheck::Doubtful { until } => {
                        self.next_sample = until.max(at + LIVE_CADENCE);
                        None
                    }
                    AddressCheck::Wrong => {
                        self.next_sample = at + LIVE_CADENCE;
                        self.stage = Stage::Handshake(Handshake::Answered {
                            answered,
                            failed: true,
                        });
                        (!failed).then_some(Step::Misled { answered })
                    }
                }
            }
            Stage::Live {
                since,
                mut pulse,
                unproven,
            } => {
                pulse.update(at, heard, sample);
                let unproven = unproven.filter(|answered| !is_proof(sample.sent, *answered));
                self.stage = Stage::Live {
                    since,
                    pulse,
                    unproven,
                };
                let broken = sample.unacknowledged && sample.timeouts >= STALL_TIMEOUTS;
                let (onset, cause) = match pulse.stall_due() {
                    _ if broken => (at, Cause::Stalled),
                    (due, cause) if due <= at => (due, cause),
                    _ => {
                        let next = pulse.next_look(at);
                        let proof = unproven.map(|_| at + PROOF_CADENCE);
                        self.next_sample = proof.into_iter().fold(next, Ord::min);
                        return None;
                    }
                };
                let onset = since.map_or(onset, |since| onset.max(since));
                self.stall(onset, at, pulse, cause == Cause::LocalStalled);
                Some(Step::Stalled { onset, cause })
            }
            Stage::Stalled {
                onset,
                mut pulse,
                until_heard,
            } => {
                pulse.update(at, heard, sample);
                self.stall(onset, at, pulse, until_heard);
                let broken = sample.unacknowledged && sample.timeouts > 0;
                let unheard = until_heard && pulse.heard <= onset;
                let is_wrong = self.address == AddressCheck::Wrong;
                if is_wrong || broken || unheard || pulse.is_silent(at) {
                    return None;
                }
                let healed = if pulse.heard > onset {
                    pulse.heard
                } else {
                    at.max(onset)
                };
                self.next_sample = pulse.next_look(at);
                self.stage = Stage::Live {
                    since: Some(healed),
                    pulse,
                    unproven: None,
                };
                Some(Step::Healed { at: healed })
            }
        }
    }

    /// Data on it went unacknowledged through `timeouts` retransmission timeouts. Returns the onset
    /// of the stall if this is one.
    pub(super) fn retransmission_timeout(
        &mut self,
        at: Timestamp,
        timeouts: u8,
    ) -> Option<Timestamp> {
        match self.stage {
            Stage::Live { since, pulse, .. } if timeouts >= STALL_TIMEOUTS => {
                let onset = since.map_or(at, |since| at.max(since));
                self.stall(onset, at, pulse, false);
                Some(onset)
            }
            // Before the upgrade, the handshake's own deadline decides.
            Stage::Live { .. } | Stage::Handshake(_) | Stage::Stalled { .. } => None,
        }
    }

    /// At `at` its destination is decided to be wrong. Returns whether it was live until then.
    pub(super) fn condemn(&mut self, at: Timestamp) -> bool {
        self.address = AddressCheck::Wrong;
        self.look_by(at);
        let Stage::Live { pulse, .. } = self.stage else {
            return false;
        };
        self.stall(at, at, pulse, false);
        true
    }

    /// Whether an end shows that it had been upgraded unseen.
    pub(super) fn upgraded_before(&mut self, origin: Origin, ending: &Ending) -> Option<Upgrade> {
        match self.address {
            AddressCheck::Doubtful { .. } | AddressCheck::Wrong => return None,
            AddressCheck::Unknown | AddressCheck::Right => {}
        }
        if ending.phase == Phase::Connecting {
            // The kernel half may know less than was reported already, and then adds nothing.
            return None;
        }
        let at = ending.at;
        // Does nothing unless the record of its establishment is lost or late.
        self.establish(origin.attempted.unwrap_or(at).min(at), at, at);
        let Stage::Handshake(handshake) = self.stage else {
            return None;
        };
        // Without a record, the kernel half's phase is all that is known.
        if self.wary && ending.heard.is_some() && !outlives_a_refusal(origin, ending.at) {
            return None;
        }
        let answered = handshake.answered_before(origin.older, ending)?.min(at);
        let heard = ending.heard.or(self.stage.heard());
        if let Some(onset) = origin.was_lost_before(heard) {
            // Nothing is left to count.
            self.stall(onset, at, Pulse::new(onset), true);
            return None;
        }
        Some(self.upgrade(origin, answered, answered, handshake.has_failed()))
    }

    /// Whether its end shows that its upgrade was refused although it was held: the client closes
    /// it as it does after a refusal whose body does not end, and has sent nothing after the
    /// answer.
    pub(super) fn is_refused(&self, origin: Origin, ending: &Ending) -> bool {
        self.is_unproven_at(ending) && is_refusal(origin, ending)
    }

    /// Whether its upgrade may have been refused, although it was held: the client also closes it as it
    /// does once it has read a refusal that came slowly. It closes one that was upgraded alike where the
    /// peer says so soon that it closes.
    pub(super) fn may_be_refused(&self, origin: Origin, ending: &Ending) -> bool {
        let is_slow = ending.answers_a_close() && !outlives_a_refusal(origin, ending.at);
        self.is_unproven_at(ending) && (is_slow || is_refusal(origin, ending))
    }

    /// Whether it ends before the client has sent something after the answer.
    fn is_unproven_at(&self, ending: &Ending) -> bool {
        let unproven = matches!(
            self.stage,
            Stage::Live {
                unproven: Some(_),
                ..
            }
        );
        // An end without a record is dated by a listing.
        unproven && ending.heard.is_some()
    }

    /// The verdict on such a refusal.
    pub(super) fn refused(&self) -> Verdict {
        let since = self.stage.live_since().flatten();
        Verdict::Lost {
            cause: Cause::HandshakeFailed,
            since,
        }
    }

    /// The verdict on its end.
    pub(super) fn verdict(&self, how: End, errno: u16) -> Verdict {
        match self.stage {
            Stage::Handshake(handshake) => handshake.verdict(how, errno, self.is_wrong()),
            Stage::Live { since, .. } => Verdict::Lost {
                cause: Cause::of_end(Phase::Held, how),
                since,
            },
            Stage::Stalled { .. } => Verdict::Nothing,
        }
    }

    /// It was stalled before the agent.
    pub(super) fn stalled_before(&mut self, onset: Timestamp, at: Timestamp) {
        self.stall(onset, at, Pulse::new(onset), true);
        self.look_by(at);
    }

    /// The dial before this one was refused although it was held.
    pub(super) fn beware(&mut self) {
        self.wary = true;
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.address == AddressCheck::Wrong
    }

    /// Upgraded, dated by the answer.
    fn upgrade(
        &mut self,
        origin: Origin,
        answered: Timestamp,
        heard: Timestamp,
        had_failed: bool,
    ) -> Upgrade {
        let since = (!origin.older || had_failed).then_some(answered);
        let heard = heard.max(answered);
        self.stage = Stage::Live {
            since,
            pulse: Pulse::new(heard),
            unproven: origin.attempted.map(|_| answered),
        };
        Upgrade {
            answered,
            since,
            heard,
            had_failed,
        }
    }

    /// Stalled since `onset`, as far as is known at `at`.
    fn stall(&mut self, onset: Timestamp, at: Timestamp, pulse: Pulse, until_heard: bool) {
        self.stage = Stage::Stalled {
            onset,
            pulse,
            until_heard,
        };
        self.next_sample = at + STALLED_CADENCE;
    }
}

/// Whether the last data `sent` shows that the client took the answer for an upgrade: a client that
/// reads a refusal sends nothing more.
fn is_proof(sent: Option<Timestamp>, answered: Timestamp) -> bool {
    sent > Some(answered + AFTER_THE_ANSWER)
}

/// Whether an end comes when a client gives up on a refusal whose body does not end.
fn is_refusal(origin: Origin, ending: &Ending) -> bool {
    let began = origin.looked_up.or(origin.attempted);
    let is_due = began.is_some_and(|began| ending.at >= began + REFUSAL_BEGINS_TO_END);
    let is_close = ending.how == End::LocalClosed && !ending.answers_a_close();
    is_close && is_due && !outlives_a_refusal(origin, ending.at)
}

/// Whether a connection that exists at `at` is no refusal: the client would have given up on one.
fn outlives_a_refusal(origin: Origin, at: Timestamp) -> bool {
    let attempted = origin.attempted;
    attempted.is_none_or(|attempted| at > attempted + REFUSAL_ENDS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_comes_too_soon_after_the_answer_is_no_proof() {
        let answered = Timestamp::from_nanos(7_000_000_000);
        let soonest = answered + AFTER_THE_ANSWER;
        assert!(!is_proof(None, answered));
        assert!(!is_proof(Some(soonest), answered));
        assert!(is_proof(Some(soonest + Duration::from_nanos(1)), answered));
    }

    #[test]
    fn a_client_has_given_up_a_refusal_once_its_time_is_over() {
        let attempted = Timestamp::from_nanos(7_000_000_000);
        let origin = Origin {
            attempted: Some(attempted),
            looked_up: None,
            older: false,
            outage_before: None,
        };
        let latest = attempted + REFUSAL_ENDS;
        assert!(!outlives_a_refusal(origin, latest));
        assert!(outlives_a_refusal(origin, latest + Duration::from_nanos(1)));
    }
}
