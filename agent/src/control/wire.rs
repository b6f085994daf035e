//! The protocol of the control socket: the client sends one line, the name of a [`Request`], and
//! reads JSON lines.

use std::{fmt, str::FromStr};

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// One [`StatusHead`](super::status::StatusHead), a [`LinkStatus`](super::status::LinkStatus) on a
    /// line for each link, then the end.
    Status,
    /// A [`LinkEvent`](crate::link_event::LinkEvent) on each line, from now on. For events that a
    /// slow client missed, it gets [`MissedEvents`] instead.
    Events,
}

/// Replaces events that a slow client missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct MissedEvents {
    /// How many.
    pub missed: u64,
}

impl Request {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Events => "events",
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The line is no request. The answer says nothing else, because anybody may get it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `status` or `events`")]
pub(crate) struct UnknownRequest;

impl FromStr for Request {
    type Err = UnknownRequest;

    fn from_str(line: &str) -> Result<Self, UnknownRequest> {
        [Self::Status, Self::Events]
            .into_iter()
            .find(|request| request.as_str() == line.trim_end())
            .ok_or(UnknownRequest)
    }
}
