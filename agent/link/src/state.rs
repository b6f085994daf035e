//! The state of a link at one instant: the one type that status, metrics and the command line read.

use crate::{Cause, UnknownReason, time::Timestamp};

/// The state of a link at one instant.
///
/// `T` is the type of "since": a moment in the core, a duration in output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<T = Timestamp> {
    /// Within the start-up grace, and not reachable yet.
    Starting,
    /// Nothing to connect to: a forwarder without an owner to forward to.
    Idle,
    /// There is a live connection.
    Reachable {
        /// `None` if since before the agent.
        since: Option<T>,
    },
    /// There is no live connection.
    Unreachable {
        /// When the outage began.
        since: T,
        /// What ended the last live connection or the last attempt, whichever is newer.
        cause: Cause,
    },
    /// The agent cannot tell.
    Unknown {
        /// When that began.
        since: T,
        /// Why not.
        reason: UnknownReason,
    },
    /// The process has ended, as it may.
    Ended,
}

impl<T> State<T> {
    /// The state's word, as in JSON.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Reachable { .. } => "reachable",
            Self::Unreachable { .. } => "unreachable",
            Self::Unknown { .. } => "unknown",
            Self::Ended => "ended",
        }
    }

    /// The value of `reachable`; `None` if there is none.
    pub const fn reachable(&self) -> Option<bool> {
        match self {
            Self::Reachable { .. } => Some(true),
            Self::Unreachable { .. } => Some(false),
            Self::Starting | Self::Idle | Self::Unknown { .. } | Self::Ended => None,
        }
    }

    /// Why it is unknown, if it is.
    pub const fn unknown_reason(&self) -> Option<UnknownReason> {
        match self {
            Self::Unknown { reason, .. } => Some(*reason),
            Self::Starting
            | Self::Idle
            | Self::Reachable { .. }
            | Self::Unreachable { .. }
            | Self::Ended => None,
        }
    }

    /// The same state, with each time converted.
    pub fn map_time<U>(self, convert: impl FnOnce(T) -> U) -> State<U> {
        match self {
            Self::Starting => State::Starting,
            Self::Idle => State::Idle,
            Self::Reachable { since } => State::Reachable {
                since: since.map(convert),
            },
            Self::Unreachable { since, cause } => State::Unreachable {
                since: convert(since),
                cause,
            },
            Self::Unknown { since, reason } => State::Unknown {
                since: convert(since),
                reason,
            },
            Self::Ended => State::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_unknown_has_a_reason() {
        let reason = UnknownReason::NoRoom;
        assert_eq!(
            State::Unknown { since: (), reason }.unknown_reason(),
            Some(reason)
        );
        assert_eq!(State::<()>::Starting.unknown_reason(), None);
    }
}
