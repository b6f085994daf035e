//! What a link asks its driver to do.

use crate::{ConnectionId, Event, EventKind, time::Timestamp};

/// One thing for the driver to do. All of a call's are done in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Look at this connection now, and hand the result back as
    /// [`Input::Sampled`](crate::Input::Sampled).
    Sample(ConnectionId),
    /// Pass this on: to logs, metrics and whoever listens.
    Event(Event),
    /// The outage that the agent before this one left goes on. It is no event, for its begin was told; but
    /// the link is shown unreachable from here on, and nobody has been told that by this agent.
    OutageGoesOn,
}

impl Output {
    /// This happened at `at`.
    pub(crate) const fn event(at: Timestamp, kind: EventKind) -> Self {
        Self::Event(Event { at, kind })
    }
}
