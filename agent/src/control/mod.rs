//! The control socket: how `statlink status` and `statlink events` ask the running agent.
//!
//! A Unix stream socket that only the agent's own user can open. A client sends one line, the
//! name of a [`Request`], and reads JSON lines.

pub mod client;
pub mod server;
pub mod status;

use std::{fmt, str::FromStr};

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// One [`status::Status`], and the end.
    Status,
    /// A [`LinkEvent`](crate::report::LinkEvent) a line, from now on. A client that reads too slowly is
    /// told how many it missed: [`Missed`].
    Events,
}

/// In the place of reports that a slow client missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Missed {
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

/// A request that is none; the server says no more than that.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `status` or `events`")]
pub struct UnknownRequest;

impl FromStr for Request {
    type Err = UnknownRequest;

    fn from_str(line: &str) -> Result<Self, UnknownRequest> {
        [Self::Status, Self::Events]
            .into_iter()
            .find(|request| request.as_str() == line.trim_end())
            .ok_or(UnknownRequest)
    }
}
