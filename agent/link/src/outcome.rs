//! What a link decides: outcomes for the driver to perform, and the status to show.

use std::{net::SocketAddr, time::Duration};

use super::{Cause, ConnectionId};
use crate::time::Timestamp;

/// One decision. The times in it are those of what happened, not of when it was known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sample this connection now and hand the result back as
    /// [`Fact::Sampled`](super::Fact::Sampled).
    Sample(ConnectionId),
    /// A connection reached *upgraded*.
    Connected {
        /// The peer's answer.
        at: Timestamp,
        /// The peer.
        peer: SocketAddr,
        /// From connect() to the answer; `None` when connect() was not seen, or when the attempt
        /// had been given up as failed before (and its duration told then).
        duration: Option<Duration>,
    },
    /// An attempt failed.
    ConnectFailed(FailedAttempt),
    /// A live connection was lost.
    Disconnected {
        /// When.
        at: Timestamp,
        /// The peer.
        peer: SocketAddr,
        /// Why.
        cause: Cause,
        /// Where the hop's connection went whose failure is the cause.
        hop: Option<SocketAddr>,
    },
    /// An outage began, or the cause of one that began with none known became known.
    Unreachable {
        /// When it began, or when its cause became known.
        at: Timestamp,
        /// Why; [`Cause::Other`] while that is not known.
        cause: Cause,
        /// Where the lost connection or the last attempt went.
        peer: Option<SocketAddr>,
        /// Where the hop's connection went whose failure is the cause.
        hop: Option<SocketAddr>,
        /// The last attempts since the link was reachable, oldest first; at most
        /// [`ATTEMPTS_TOLD`](super::ATTEMPTS_TOLD).
        attempts: Vec<FailedAttempt>,
    },
    /// The link became reachable.
    Reachable {
        /// Since when.
        at: Timestamp,
        /// The peer.
        peer: SocketAddr,
        /// The outage that this ends; `None` at the first reachability.
        outage: Option<Outage>,
    },
    /// There is nobody left to be reachable or not: the dialler has let go of every target, or
    /// those that are left are in their grace.
    Idle {
        /// When.
        at: Timestamp,
    },
    /// The process ended, as it may.
    Ended {
        /// When.
        at: Timestamp,
    },
}

/// An outage that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// From the loss of the last live connection, or the end of the start-up grace, to the answer
    /// on the next.
    pub length: Duration,
    /// The cause at its onset, or the first that became known.
    pub cause: Cause,
    /// Errors of every kind since the link was reachable before, or since its discovery.
    pub errors: u64,
    /// The last failed attempts in that time, oldest first; at most
    /// [`ATTEMPTS_TOLD`](super::ATTEMPTS_TOLD).
    pub attempts: Vec<FailedAttempt>,
}

/// One failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// When it failed.
    pub at: Timestamp,
    /// Where it went; `None` when its records were lost.
    pub peer: Option<SocketAddr>,
    /// Why it failed.
    pub cause: Cause,
    /// Where the hop's connection went whose failure is the cause.
    pub hop: Option<SocketAddr>,
    /// The errno behind it, where there was one.
    pub errno: Option<u16>,
    /// From connect() to its failure; `None` when connect() was not seen.
    pub duration: Option<Duration>,
}

/// What a link is at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing to be connected to.
    Idle,
    /// Within the start-up grace, and not reachable yet.
    Starting,
    /// There is a live connection.
    Reachable {
        /// `None`: since before the agent.
        since: Option<Timestamp>,
    },
    /// There is none.
    Unreachable {
        /// When the outage began.
        since: Timestamp,
        /// What ended the last live connection or the last attempt, whichever is newer.
        cause: Cause,
    },
    /// The process is gone.
    Ended,
}
