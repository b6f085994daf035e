//! What a link is at one instant: the one type that status, metrics and the command line read.

use crate::{Cause, UnknownReason, time::Timestamp};

/// What a link is at one instant.
///
/// `T` says since when: as a moment here, as how long ago where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<T = Timestamp> {
    /// Within the start-up grace, and not reachable yet.
    Starting,
    /// There is nothing to be connected to: a forwarder without an owner to forward to.
    Idle,
    /// There is a live connection.
    Reachable {
        /// `None`: since before the agent.
        since: Option<T>,
    },
    /// There is none.
    Unreachable {
        /// When the outage began.
        since: T,
        /// What ended the last live connection or the last attempt, whichever is newer.
        cause: Cause,
    },
    /// The agent cannot tell.
    Unknown {
        /// Since it cannot.
        since: T,
        /// Why not.
        reason: UnknownReason,
    },
    /// The process is gone, as it may.
    Ended,
}

impl<T> State<T> {
    /// The word for it, as in JSON.
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

    /// The value of `reachable`; `None` where there is none to give.
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

    /// The same, with each time as `convert` has it.
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
