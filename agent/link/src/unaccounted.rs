//! Connections that were decided without their end, which is still to come.
//!
//! Looks find a connection gone, no record says how it ended, and the link decides after
//! [`VANISHED`](crate::timings::VANISHED) that it ended for an unknown cause. While a burst fills
//! the ring, resynchronisations may take longer than that. The end then appears among the missed
//! ones, and must not be counted again.

use std::collections::VecDeque;

use statlink_ebpf::Phase;

use crate::{ConnectionId, limits::CONNECTIONS, time::Timestamp, timings::END_TURNS_UP};

/// The connections whose ends have not appeared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unaccounted {
    connections: VecDeque<Decided>,
}

#[derive(Clone, Copy, Debug)]
struct Decided {
    id: ConnectionId,
    /// How far it was known to have come.
    progress: Phase,
    at: Timestamp,
}

impl Unaccounted {
    /// `id` was decided at `at`.
    pub(crate) fn add(&mut self, id: ConnectionId, progress: Phase, at: Timestamp) {
        if self.connections.len() >= CONNECTIONS {
            self.connections.pop_front();
        }
        self.connections.push_back(Decided { id, progress, at });
    }

    /// The end of `id` was recorded: it is not among the missed ones.
    pub(crate) fn recorded(&mut self, id: ConnectionId) {
        self.connections.retain(|decided| decided.id != id);
    }

    /// Removes one that is known to have come this far, as of `now`; returns whether there was one.
    pub(crate) fn take(&mut self, progress: Phase, now: Timestamp) -> bool {
        self.connections
            .retain(|decided| decided.at + END_TURNS_UP > now);
        let mut connections = self.connections.iter();
        let index = connections.position(|decided| decided.progress == progress);
        index.is_some_and(|index| self.connections.remove(index).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Phase = Phase::Held;

    fn id(n: u64) -> ConnectionId {
        let born = Timestamp::from_nanos(n);
        ConnectionId { sock: n, born }
    }

    fn with(ids: impl IntoIterator<Item = u64>) -> Unaccounted {
        let mut unaccounted = Unaccounted::default();
        for n in ids {
            unaccounted.add(id(n), HELD, Timestamp::from_nanos(n));
        }
        unaccounted
    }

    #[test]
    fn an_end_turns_up_once_and_only_one_of_its_kind() {
        let mut unaccounted = with([1]);
        let now = Timestamp::from_nanos(2);
        assert!(!unaccounted.take(Phase::Established, now));
        assert!(unaccounted.take(HELD, now));
        assert!(!unaccounted.take(HELD, now));
    }

    #[test]
    fn one_whose_end_was_recorded_is_accounted_for() {
        let mut unaccounted = with([1]);
        let now = Timestamp::from_nanos(2);
        unaccounted.add(id(2), Phase::Established, now);
        unaccounted.recorded(id(1));
        assert!(!unaccounted.take(HELD, now));
        assert!(unaccounted.take(Phase::Established, now));
    }

    #[test]
    fn an_end_that_takes_too_long_does_not_turn_up_any_more() {
        let due = Timestamp::from_nanos(1) + END_TURNS_UP;
        let before = due - std::time::Duration::from_nanos(1);
        assert!(with([1]).take(HELD, before));
        assert!(!with([1]).take(HELD, due));
    }

    #[test]
    fn beyond_its_limit_the_oldest_is_given_up() {
        let newest = CONNECTIONS as u64 + 1;
        let mut unaccounted = with(1..=newest);
        let now = Timestamp::from_nanos(newest);
        let taken = (0..=newest).take_while(|_| unaccounted.take(HELD, now));
        assert_eq!(taken.count(), CONNECTIONS);
    }
}
