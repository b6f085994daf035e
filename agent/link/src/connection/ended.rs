//! How a connection ends: at once, when its address is known, or when its end has settled.

use statlink_ebpf::End;

use super::{
    Connection, Life,
    ending::{Closed, Ended, Ending, Verdict},
    open::Upgrade,
};
use crate::{
    address_check::AddressCheck,
    cause,
    time::Timestamp,
    timings::{SAME_DIAL, SETTLE, SETTLE_ANSWER},
};

impl Connection {
    /// The connection ended. If the end shows that it had been upgraded unseen, returns that
    /// upgrade first.
    pub(crate) fn end(&mut self, ending: &Ending) -> (Option<Upgrade>, Ended) {
        let Life::Open(open) = &mut self.life else {
            return (None, Ended::Waits);
        };
        if let (AddressCheck::Doubtful { until }, Some(handshake)) =
            (open.address, open.stage.handshake())
        {
            self.life = Life::EndedInDoubt {
                handshake,
                until,
                ending: *ending,
            };
            return (None, Ended::Waits);
        }
        let upgrade = open.upgraded_before(self.origin, ending);
        let answers = ending.answers_a_close();
        let is_local = cause::is_local(ending.how);
        let may_have_lost = open.stage.may_have_lost(is_local);
        let may_be_refusal = open.may_be_refused(self.origin, ending);
        let verdict = if open.is_refused(self.origin, ending) {
            open.refused()
        } else if answers {
            open.verdict(ending.how, ending.errno).by_the_peer()
        } else {
            open.verdict(ending.how, ending.errno)
        };
        if verdict == Verdict::Nothing || !is_local && !may_have_lost {
            return (upgrade, Ended::Decided(verdict));
        }
        let settle = match is_local {
            true if answers => SETTLE_ANSWER,
            true => SETTLE,
            false => SAME_DIAL,
        };
        self.life = Life::Closed(Closed {
            at: ending.at,
            told: (ending.phase, ending.how),
            verdict,
            until: ending.at + settle,
            is_local,
            may_have_lost,
            may_be_refusal,
        });
        (upgrade, Ended::Waits)
    }

    /// Its end, if that is still settling.
    pub(crate) fn closed(&self) -> Option<Closed> {
        match self.life {
            Life::Closed(closed) => Some(closed),
            Life::Open(_) | Life::EndedInDoubt { .. } => None,
        }
    }

    /// Its end settles at `until` instead.
    pub(crate) fn settle_later(&mut self, until: Timestamp) {
        if let Life::Closed(closed) = &mut self.life {
            closed.until = until;
        }
    }

    /// At `at` the connection is known to be gone, and its end will not be known. Returns when it
    /// ended, and the verdict.
    pub(crate) fn end_unseen(&self, at: Timestamp) -> (Timestamp, Verdict) {
        match &self.life {
            Life::Open(open) => {
                let at = open.vanished.unwrap_or(at);
                (at, open.verdict(End::Other, 0))
            }
            Life::EndedInDoubt {
                handshake, ending, ..
            } => {
                let verdict = handshake.verdict(ending.how, ending.errno, false);
                (ending.at, verdict)
            }
            Life::Closed(closed) => (closed.at, closed.verdict),
        }
    }
}
