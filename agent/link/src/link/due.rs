//! The deadlines of a link: verdicts on connections, and consequences for the link.

use super::Link;
use crate::{
    ConnectionId, Output, assessment, connection::Due, resync::Reconciliation, time::Timestamp,
};

/// What is due on a link. At the same moment, verdicts on connections come before consequences for
/// the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A listing has waited long enough for looks. This comes before the decision about what is
    /// gone.
    Reconciliation,
    Connection(Due, ConnectionId),
    Link(assessment::Timer),
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
    }

    /// What is due next.
    pub(super) fn next_timer(&self) -> Option<(Timestamp, Timer)> {
        let quiet = self.connections.quiet_since();
        let (due, timer) = self.assessment.next_due(quiet)?;
        let of_link = (due, Timer::Link(timer));
        let of_connections = self.connections.next_due();
        let of_connections = of_connections.map(|(at, due, id)| (at, Timer::Connection(due, id)));
        let of_listing = self.reconciliation.as_ref().map(Reconciliation::due);
        let of_listing = of_listing.map(|due| (due, Timer::Reconciliation));
        let others = of_connections.into_iter().chain(of_listing);
        Some(others.fold(of_link, Ord::min))
    }

    fn fire(&mut self, due: Timestamp, timer: Timer, now: Timestamp, outputs: &mut Vec<Output>) {
        match timer {
            Timer::Reconciliation => self.complete_reconciliation(),
            Timer::Connection(Due::Sample, id) => {
                self.connections.asked(id, now);
                outputs.push(Output::Sample(id));
            }
            Timer::Connection(Due::Settle, id) => self.connections.settle(id, due),
            Timer::Connection(Due::Condemn, id) => {
                self.connections.condemn(id, due);
            }
            Timer::Connection(Due::Gone, id) => self.connections.gone(id, due),
            Timer::Link(timer) => self.assessment.fire(timer, due, now, outputs),
        }
        self.assess(outputs);
    }
}

/// Reached only by saturation: nothing is due then.
const END_OF_TIME: Timestamp = Timestamp::from_nanos(u64::MAX);
