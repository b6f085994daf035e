//! A connection before it is upgraded: how far it has come, and the meaning of its end.

use statlink_ebpf::{End, Phase};

use super::ending::{Ending, Verdict};
use crate::{
    Cause,
    time::Timestamp,
    timings::{HANDSHAKE, HOLD},
};

/// The origin of a connection: whether the agent saw its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// When connect() was called, if that was seen.
    pub(super) attempted: Option<Timestamp>,
    /// When the dial began with the lookup of the name, if that was seen.
    pub(super) looked_up: Option<Timestamp>,
    /// It is older than the agent, so its connect check is not the agent's to decide.
    pub(super) older: bool,
    /// When the outage began that the agent before this one reported.
    pub(super) outage_before: Option<Timestamp>,
}

impl Origin {
    /// The onset of its stall, if it stalled before this agent: its peer was last `heard` before
    /// the outage began that the agent before this one reported. If nobody knows when the peer was
    /// heard, nobody knows that the connection was live again.
    pub(super) fn was_lost_before(&self, heard: Option<Timestamp>) -> Option<Timestamp> {
        self.outage_before
            .filter(|began| self.older && heard.is_none_or(|heard| heard <= *began))
    }
}

/// What a connection waits for before it is upgraded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Handshake {
    /// The answer to the SYN.
    Connecting,
    /// The peer's first data.
    Unanswered {
        /// The last moment at which no answer had come: the last look without one. Before the first
        /// look, the moment of its establishment, or an earlier one if that is not known.
        unheard: Timestamp,
        /// When the handshake takes too long.
        overdue: Timestamp,
        /// It took too long, and its connect check is decided.
        failed: bool,
    },
    /// To be held open for long enough after the answer.
    Answered {
        answered: Timestamp,
        /// As above, or the wrong peer answered.
        failed: bool,
    },
}

impl Handshake {
    /// The verdict on its end, before it was upgraded.
    pub(super) fn verdict(self, how: End, errno: u16, wrong: bool) -> Verdict {
        let phase = match self {
            Self::Connecting => Phase::Connecting,
            Self::Unanswered { failed, .. } | Self::Answered { failed, .. } => {
                if failed {
                    return Verdict::Nothing;
                }
                Phase::Established
            }
        };
        Verdict::Failed {
            cause: if wrong {
                Cause::WrongPeer
            } else {
                Cause::of_end(phase, how)
            },
            errno: (errno != 0).then_some(errno),
        }
    }

    /// Whether its connect check has failed.
    pub(super) const fn has_failed(self) -> bool {
        match self {
            Self::Connecting => false,
            Self::Unanswered { failed, .. } | Self::Answered { failed, .. } => failed,
        }
    }

    /// When it was answered, if its end shows that it had been upgraded unseen by then.
    ///
    /// The kernel half's phase says so, or the time of the peer's last data. If only the phase is
    /// known, the end may be older than its date.
    pub(super) fn answered_before(self, older: bool, ending: &Ending) -> Option<Timestamp> {
        let at = ending.at;
        let held = ending.phase == Phase::Held;
        match self {
            Self::Connecting => None,
            Self::Unanswered {
                unheard, failed, ..
            } => match ending.heard {
                Some(heard) if heard.max(unheard) + HOLD <= at => Some(heard.max(unheard)),
                _ if !held || failed => None,
                Some(heard) if older => Some(heard),
                // What was heard just before the end may be the peer's close. The connection had
                // been held if it lived longer than any client waits for an answer.
                Some(_) => (unheard + HANDSHAKE < at).then_some(unheard),
                None if older => Some(at),
                None => Some(unheard),
            },
            Self::Answered { answered, failed } => {
                let lasted = answered + HOLD <= at && ending.heard.is_some();
                let reported = held && (ending.heard.is_none() || older && !failed);
                (lasted || reported).then_some(answered)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// When it was established, and the deadline of its handshake.
    const BEGAN: Timestamp = Timestamp::from_nanos(10_000_000_000);

    fn after(milliseconds: u64) -> Timestamp {
        BEGAN + Duration::from_millis(milliseconds)
    }

    fn unanswered(failed: bool) -> Handshake {
        Handshake::Unanswered {
            unheard: BEGAN,
            overdue: BEGAN + HANDSHAKE,
            failed,
        }
    }

    fn ending(at: u64, phase: Phase, heard: Option<u64>) -> Ending {
        Ending {
            at: after(at),
            phase,
            how: End::PeerClosed,
            errno: 0,
            heard: heard.map(after),
        }
    }

    #[test]
    fn an_end_without_an_answer_seen_says_when_that_came() {
        const HELD: Phase = Phase::Held;
        const SHORT: Phase = Phase::Established;
        for (case, older, failed, end, answered) in [
            (
                "held by the clock",
                false,
                false,
                ending(300, SHORT, Some(50)),
                Some(50),
            ),
            (
                "just long enough",
                false,
                true,
                ending(300, SHORT, Some(50)),
                Some(50),
            ),
            (
                "not long enough",
                false,
                false,
                ending(299, SHORT, Some(50)),
                None,
            ),
            (
                "held by its phase",
                false,
                false,
                ending(299, HELD, None),
                Some(0),
            ),
            (
                "by its phase, decided before",
                false,
                true,
                ending(299, HELD, None),
                None,
            ),
            (
                "a good-bye",
                false,
                false,
                ending(3_000, HELD, Some(2_999)),
                None,
            ),
            (
                "a good-bye after a life",
                false,
                false,
                ending(3_001, HELD, Some(3_000)),
                Some(0),
            ),
            (
                "an older one's last word",
                true,
                false,
                ending(299, HELD, Some(298)),
                Some(298),
            ),
            (
                "an older one's end alone",
                true,
                false,
                ending(299, HELD, None),
                Some(299),
            ),
        ] {
            let found = unanswered(failed).answered_before(older, &end);
            assert_eq!(found, answered.map(after), "{case}");
        }
    }

    #[test]
    fn an_answer_that_was_seen_counts_if_it_was_held() {
        for (case, older, failed, end, held) in [
            (
                "long enough",
                false,
                true,
                ending(260, Phase::Established, Some(255)),
                true,
            ),
            (
                "not long enough",
                false,
                false,
                ending(259, Phase::Established, Some(255)),
                false,
            ),
            (
                "nothing heard at its end",
                false,
                true,
                ending(260, Phase::Established, None),
                false,
            ),
            (
                "its phase alone",
                false,
                true,
                ending(100, Phase::Held, None),
                true,
            ),
            (
                "its phase, and a word",
                false,
                false,
                ending(100, Phase::Held, Some(90)),
                false,
            ),
            (
                "an older one",
                true,
                false,
                ending(100, Phase::Held, Some(90)),
                true,
            ),
            (
                "an older one, decided before",
                true,
                true,
                ending(100, Phase::Held, Some(90)),
                false,
            ),
        ] {
            let answered = after(10);
            let found = Handshake::Answered { answered, failed }.answered_before(older, &end);
            assert_eq!(found, held.then_some(answered), "{case}");
        }
    }

    #[test]
    fn a_check_is_decided_once() {
        assert!(!Handshake::Connecting.has_failed());
        for failed in [false, true] {
            let answered = BEGAN;
            let answered = Handshake::Answered { answered, failed };
            for handshake in [unanswered(failed), answered] {
                assert_eq!(handshake.has_failed(), failed, "{handshake:?}");
            }
        }
    }
}
