//! Connections that were decided without their end: it is still to come.
//!
//! Looks find a connection gone, no record tells how it ended, and the link decides after
//! [`VANISHED`](crate::timings::VANISHED) that it ended for an unknown cause. While a burst fills the
//! ring, resynchronisations may take longer than that. The end then turns up among the missed ones,
//! and is not to be counted again.

use std::collections::VecDeque;

use statlink_ebpf::Phase;

use crate::{ConnectionId, limits::CONNECTIONS, time::Timestamp, timings::END_TURNS_UP};

/// The connections whose ends have not turned up.
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

    /// Takes out one that is known to have come this far, as of `now`; whether there was one.
    pub(crate) fn take(&mut self, progress: Phase, now: Timestamp) -> bool {
        self.connections
            .retain(|decided| decided.at + END_TURNS_UP > now);
        let mut connections = self.connections.iter();
        let index = connections.position(|decided| decided.progress == progress);
        index.is_some_and(|index| self.connections.remove(index).is_some())
    }
}
