//! The meaning of a TCP socket's state change for an outgoing connection.

use super::ending::Closing;
use crate::wire::Phase;

/// TCP states: `include/net/tcp_states.h`.
pub const TCP_ESTABLISHED: i32 = 1;
/// As [`TCP_ESTABLISHED`].
pub const TCP_SYN_SENT: i32 = 2;
const TCP_FIN_WAIT1: i32 = 4;
/// As [`TCP_ESTABLISHED`].
pub const TCP_CLOSE: i32 = 7;
const TCP_CLOSE_WAIT: i32 = 8;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// connect() is about to send a SYN.
    Attempted,
    /// The peer answered the SYN.
    Established,
    /// The attempt is over, without a connection.
    AttemptFailed,
    /// The connection is over.
    Ended(Closing),
}

/// The meaning of a change from `old` to `new`. `None` if there is none, as for passive opens and
/// after a reported end.
#[inline(always)]
pub const fn state_change(old: i32, new: i32) -> Option<StateChange> {
    match (old, new) {
        (_, TCP_SYN_SENT) => Some(StateChange::Attempted),
        (TCP_SYN_SENT, TCP_ESTABLISHED) => Some(StateChange::Established),
        (TCP_SYN_SENT, TCP_CLOSE) => Some(StateChange::AttemptFailed),
        (TCP_ESTABLISHED, TCP_CLOSE_WAIT) => Some(StateChange::Ended(Closing::PeerFin)),
        (TCP_ESTABLISHED, TCP_FIN_WAIT1) => Some(StateChange::Ended(Closing::LocalFin)),
        (TCP_ESTABLISHED, TCP_CLOSE) => Some(StateChange::Ended(Closing::Abrupt)),
        _ => None,
    }
}

/// How far an open connection has come, by its socket's state; `None` if it is not an open connection.
#[inline(always)]
pub const fn open_phase(state: i32) -> Option<Phase> {
    match state {
        TCP_SYN_SENT => Some(Phase::Connecting),
        TCP_ESTABLISHED => Some(Phase::Established),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP_SYN_RECV: i32 = 3;
    const TCP_LAST_ACK: i32 = 9;
    const TCP_NEW_SYN_RECV: i32 = 12;

    #[test]
    fn an_outgoing_connection_is_followed_from_its_syn_to_its_end() {
        for (old, new, expected) in [
            (TCP_CLOSE, TCP_SYN_SENT, StateChange::Attempted),
            (TCP_SYN_SENT, TCP_ESTABLISHED, StateChange::Established),
            (TCP_SYN_SENT, TCP_CLOSE, StateChange::AttemptFailed),
            (
                TCP_ESTABLISHED,
                TCP_CLOSE_WAIT,
                StateChange::Ended(Closing::PeerFin),
            ),
            (
                TCP_ESTABLISHED,
                TCP_FIN_WAIT1,
                StateChange::Ended(Closing::LocalFin),
            ),
            (
                TCP_ESTABLISHED,
                TCP_CLOSE,
                StateChange::Ended(Closing::Abrupt),
            ),
        ] {
            assert_eq!(state_change(old, new), Some(expected), "{old} to {new}");
        }
    }

    #[test]
    fn nothing_else_means_anything() {
        let meaningful = (0..=TCP_NEW_SYN_RECV)
            .flat_map(|old| (0..=TCP_NEW_SYN_RECV).map(move |new| (old, new)))
            .filter(|(old, new)| *new != TCP_SYN_SENT && state_change(*old, *new).is_some());
        assert_eq!(meaningful.count(), 5);
        for (old, new) in [
            (TCP_SYN_RECV, TCP_ESTABLISHED),
            (TCP_CLOSE_WAIT, TCP_LAST_ACK),
            (TCP_LAST_ACK, TCP_CLOSE),
            (TCP_FIN_WAIT1, TCP_CLOSE),
        ] {
            assert_eq!(state_change(old, new), None, "{old} to {new}");
        }
    }

    #[test]
    fn a_connection_is_open_until_a_fin_or_a_reset() {
        assert_eq!(open_phase(TCP_SYN_SENT), Some(Phase::Connecting));
        assert_eq!(open_phase(TCP_ESTABLISHED), Some(Phase::Established));
        for state in [TCP_CLOSE, TCP_CLOSE_WAIT, TCP_FIN_WAIT1, TCP_LAST_ACK] {
            assert_eq!(open_phase(state), None, "{state}");
        }
    }
}
