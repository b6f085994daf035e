//! The deadlines of an assessment: the end of the grace, liveness checks, and the consequences of
//! not dialling.

use super::{Assessment, Timer};
use crate::{
    Cause, CheckKind, Output,
    reachability::Reach,
    time::Timestamp,
    timings::{LIVENESS, NO_ATTEMPT},
};

impl Assessment {
    /// What is due next, given that there has been no connection and no attempt since `quiet`: a
    /// quiet link is not reachable. `None` means that it is not known whether the link is quiet;
    /// then nothing follows.
    pub(crate) fn next_due(&self, quiet: Option<Timestamp>) -> Option<(Timestamp, Timer)> {
        let quiet = match self.reachability.reach() {
            Reach::Unknown { .. } => None,
            Reach::Undecided | Reach::Reachable { .. } | Reach::Unreachable { .. } => {
                quiet.map(|quiet| quiet.max(self.sighted))
            }
            Reach::Ended => return None,
        };
        let dns = quiet.and_then(|quiet| Some((self.dns_due(quiet)?, Timer::Dns)));
        let given_up = quiet.and_then(|quiet| {
            let pause = self.lookups.pause();
            let due = self.target.as_ref()?.given_up_due(quiet, pause);
            Some((due, Timer::GivenUp))
        });
        let of_state = match self.reachability.reach() {
            Reach::Undecided => Some((self.grace_ends, Timer::Grace)),
            Reach::Unreachable { .. } => {
                quiet.and_then(|quiet| Some((self.no_attempt_due(quiet)?, Timer::NoAttempt)))
            }
            Reach::Reachable { .. } | Reach::Unknown { .. } | Reach::Ended => None,
        };
        let liveness = (self.next_liveness, Timer::Liveness);
        let others = dns.into_iter().chain(given_up).chain(of_state);
        Some(others.fold(liveness, Ord::min))
    }

    /// Does what was due at `due`, by `now`.
    pub(crate) fn fire(
        &mut self,
        timer: Timer,
        due: Timestamp,
        now: Timestamp,
        outputs: &mut Vec<Output>,
    ) {
        match timer {
            Timer::Dns => {
                self.lookups.judged();
                self.put_blame(due, Cause::Dns.into(), outputs);
            }
            Timer::GivenUp => self.end(due, outputs),
            Timer::Grace if self.inherited.is_some() => self.take_up_inherited(outputs),
            Timer::Grace => {
                self.begin_outage(due, self.blame.why(), self.last_peer, outputs);
                // Each outage has an error at its onset.
                self.next_liveness = due;
            }
            Timer::NoAttempt => {
                self.lookups.judged();
                self.put_blame(due, Cause::NoAttempt.into(), outputs);
            }
            Timer::Liveness => {
                match self.reachability.reach() {
                    Reach::Reachable { .. } => self.counts.pass(CheckKind::Liveness, 1),
                    Reach::Unreachable { .. } => {
                        let cause = self.cause();
                        self.counts.fail(CheckKind::Liveness, cause, 1);
                    }
                    // Undecided and unknown states are not checked.
                    Reach::Undecided | Reach::Unknown { .. } | Reach::Ended => {}
                }
                self.next_liveness = due.next_on_grid(LIVENESS, now);
            }
        }
    }

    /// When name lookups without an attempt become the cause.
    fn dns_due(&self, quiet: Timestamp) -> Option<Timestamp> {
        if self.cause() == Cause::Dns {
            return None;
        }
        self.lookups.due(quiet)
    }

    /// When the lack of attempts becomes the cause, unless it is already. A target that is not
    /// dialled is over instead.
    fn no_attempt_due(&self, quiet: Timestamp) -> Option<Timestamp> {
        if self.target.is_some() {
            return None;
        }
        match self.cause() {
            Cause::Dns => Some(self.lookups.stopped_due(quiet)),
            Cause::NoAttempt => None,
            Cause::ConnectionRefused
            | Cause::Timeout
            | Cause::Cancelled
            | Cause::HostUnreachable
            | Cause::NetworkUnreachable
            | Cause::PermissionDenied
            | Cause::AddressUnavailable
            | Cause::ConnectionReset
            | Cause::ConnectionAborted
            | Cause::HandshakeFailed
            | Cause::PeerClosed
            | Cause::LocalClosed
            | Cause::Stalled
            | Cause::LocalStalled
            | Cause::WrongPeer
            | Cause::Other => Some(quiet + NO_ATTEMPT),
        }
    }
}
