//! What a link asks its driver to do.

use crate::{ConnectionId, Event, EventKind, time::Timestamp};

/// One task for the driver. It performs all tasks of a call in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Look at this connection now, and pass the result back as
    /// [`Input::Sampled`](crate::Input::Sampled).
    Sample(ConnectionId),
    /// Pass this on to logs, metrics and listeners.
    Event(Event),
    /// The outage that the agent before this one left continues. This is no event, because its
    /// begin was reported. But the link is unreachable from now on, which this agent has not
    /// exported yet.
    OutageGoesOn,
}

impl Output {
    /// An event that happened at `at`.
    pub(crate) const fn event(at: Timestamp, kind: EventKind) -> Self {
        Self::Event(Event { at, kind })
    }
}
