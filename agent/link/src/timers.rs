//! What falls due on a link, and when.

use std::time::Duration;

use super::{Cause, CheckKind, ConnectionId, Link, Output, connection::Due, reachability::Reach};
use crate::time::Timestamp;

/// What falls due on a link. At the same moment: verdicts on connections, then what follows for
/// the link, and last the check of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Connection(Due, ConnectionId),
    Dns,
    GivenUp,
    Grace,
    NoAttempt,
    Liveness,
}

impl Link {
    /// Does what is due by `now`.
    pub(super) fn run_until(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        // Each round either ends a connection or a state, or moves a timer beyond `now`.
        while let Some((due, timer)) = self.next_timer()
            && due <= now
            && due < END_OF_TIME
        {
            self.fire(due, timer, now, outputs);
        }
        self.now = self.now.max(now);
    }

    /// What falls due next.
    pub(super) fn next_timer(&self) -> Option<(Timestamp, Timer)> {
        let of_the_link = match self.reach {
            Reach::Ended => return None,
            Reach::Starting { grace_ends } => Some((grace_ends, Timer::Grace)),
            Reach::Reachable { .. } => None,
            Reach::Unreachable { .. } => self.no_attempt_due().map(|due| (due, Timer::NoAttempt)),
        };
        let of_lookups = self.dns_due().map(|due| (due, Timer::Dns));
        let of_connections = self.connections.values().filter_map(|connection| {
            let (at, due) = connection.due()?;
            Some((at, Timer::Connection(due, connection.id)))
        });
        let of_a_target = self.given_up_due().map(|due| (due, Timer::GivenUp));
        of_connections
            .chain(of_the_link)
            .chain(of_lookups)
            .chain(of_a_target)
            .chain([(self.next_liveness, Timer::Liveness)])
            .min()
    }

    fn fire(&mut self, due: Timestamp, timer: Timer, now: Timestamp, outputs: &mut Vec<Output>) {
        match timer {
            Timer::Connection(Due::Sample, id) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.asked(now);
                    outputs.push(Output::Sample(id));
                }
            }
            Timer::Connection(Due::Settle, id) => {
                if let Some(connection) = self.connections.remove(&id) {
                    self.settle(connection, outputs);
                }
            }
            Timer::Connection(Due::Condemn, id) => {
                if let Some(connection) = self.connections.remove(&id) {
                    self.condemn(connection, due, outputs);
                }
            }
            Timer::Connection(Due::Gone, id) => {
                if let Some(connection) = self.connections.remove(&id) {
                    self.end_unseen(connection, due, outputs);
                }
            }
            Timer::GivenUp => self.finish(due, outputs),
            Timer::Grace => self.begin_outage(due, self.why(), self.last_peer, outputs),
            Timer::Dns => {
                self.lookups.judged();
                self.blame(due, Cause::Dns.into(), outputs);
            }
            Timer::NoAttempt => {
                self.lookups.judged();
                self.blame(due, Cause::NoAttempt.into(), outputs);
            }
            Timer::Liveness => {
                match self.reach {
                    Reach::Reachable { .. } => self.counts.pass(CheckKind::Liveness, 1),
                    Reach::Unreachable { .. } | Reach::Starting { .. } => {
                        let cause = self.cause();
                        self.counts.fail(CheckKind::Liveness, cause, 1);
                    }
                    Reach::Ended => {}
                }
                self.next_liveness = next_on_grid(due, LIVENESS, now);
            }
        }
    }

    /// When the lack of attempts is the cause: there is no connection and no attempt, and it is
    /// not blamed for it yet.
    fn no_attempt_due(&self) -> Option<Timestamp> {
        if !self.connections.is_empty() || self.target.is_some() {
            return None;
        }
        if self.cause() == Cause::Dns {
            return Some(self.lookups.stopped_due(self.last_activity));
        }
        (self.cause() != Cause::NoAttempt).then(|| self.last_activity + NO_ATTEMPT)
    }

    /// When the name lookups that no attempt follows are the cause.
    fn dns_due(&self) -> Option<Timestamp> {
        let matters = match self.reach {
            Reach::Starting { .. } | Reach::Unreachable { .. } => self.connections.is_empty(),
            Reach::Reachable { .. } | Reach::Ended => false,
        };
        if !matters || self.cause() == Cause::Dns {
            return None;
        }
        self.lookups.due(self.last_activity)
    }
}

/// The first moment after `now` on the grid that `due` is on.
pub(super) fn next_on_grid(due: Timestamp, step: Duration, now: Timestamp) -> Timestamp {
    let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX).max(1);
    let passed = now.as_nanos().saturating_sub(due.as_nanos()) / step;
    let ahead = step.saturating_mul(passed.saturating_add(1));
    Timestamp::from_nanos(due.as_nanos().saturating_add(ahead))
}

/// Between two liveness checks.
pub(super) const LIVENESS: Duration = Duration::from_secs(5);
/// Without an attempt for this long, the lack of one is the cause: the longest gap between two
/// dials of Knative's websocket client is about 20 s.
const NO_ATTEMPT: Duration = Duration::from_secs(20);
/// Reached by saturation only: nothing falls due here.
const END_OF_TIME: Timestamp = Timestamp::from_nanos(u64::MAX);
