//! How an attempt failed or a connection ended, from what its socket still shows.

use super::heard::{NEVER_HEARD, answers_a_close};
use crate::{
    limits::HOLD_NS,
    wire::{End, Phase},
};

/// What a socket shows at its end. Asked for on demand: in the kernel each answer costs a load or a
/// helper's call.
pub trait Evidence {
    /// `sk_err`; 0 without one. The application's `SO_ERROR` takes it without a lock, so it may be
    /// gone.
    fn errno(&self) -> u16;
    /// The errno of an ICMP error that arrived while connect() was running; 0 without one.
    fn soft_errno(&self) -> u16;
    /// Whether this side has shut the socket down, as close() does.
    fn is_shut_down(&self) -> bool;
    /// Whether the task that closes the socket is ending.
    fn is_exiting(&self) -> bool;
    /// Whether the SYN was due a second time.
    fn is_syn_overdue(&self) -> bool;
    /// Whether the connect() that made the attempt has yet to return, and its return will be seen.
    fn is_connect_running(&self) -> bool;
    /// Whether the peer owes an acknowledgement of data.
    fn is_unacknowledged(&self) -> bool;
}

/// How an attempt failed, and its errno; `None` if the return of connect() will say.
#[inline(always)]
pub fn end_of_attempt(socket: &impl Evidence) -> Option<(End, u16)> {
    let errno = socket.errno();
    if errno != 0 {
        return Some((End::from_errno(errno), errno));
    }
    if socket.is_shut_down() {
        // The client's close. An ICMP error it may have read is the reason; without one, only the
        // retransmissions tell a time-out from a cancellation.
        let soft_errno = socket.soft_errno();
        return Some(if socket.is_exiting() {
            (End::Exiting, 0)
        } else if soft_errno != 0 {
            (End::from_errno(soft_errno), soft_errno)
        } else if socket.is_syn_overdue() {
            (End::Unanswered, 0)
        } else {
            (End::Abandoned, 0)
        });
    }
    // connect() has returned before, and a late ICMP error's errno is gone: the client has taken it
    // already, as after a handshake. It is the same as that of the first SYN.
    let soft_errno = socket.soft_errno();
    if soft_errno != 0 {
        return Some((End::from_errno(soft_errno), soft_errno));
    }
    // Failed inside connect() itself (an ICMP error, no local port): its return has the errno.
    if socket.is_connect_running() {
        return None;
    }
    Some((End::Other, 0))
}

/// What took a socket out of the established state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The peer's FIN.
    PeerFin,
    /// This side's FIN.
    LocalFin,
    /// No FIN: a reset, an error, or this side's close with data left unread, which sends a reset
    /// instead of a FIN.
    Abrupt,
}

/// How an established connection ended at `time_ns`. Its handshake completed at `established_ns`, and
/// the peer was heard at `heard_ns`, each as for [`phase_at_end`].
#[inline(always)]
pub fn end_of_connection(
    closing: Closing,
    established_ns: u64,
    heard_ns: u64,
    time_ns: u64,
    socket: &impl Evidence,
) -> End {
    match closing {
        Closing::PeerFin => return End::PeerClosed,
        Closing::Abrupt => {
            let errno = socket.errno();
            // See `CLOSE_ANSWER_NS`. Resets come at any moment, and a pong is a word of the peer's
            // too: by time alone, one reset in two hundred passed for a close. So what this side
            // answered must also be unacknowledged.
            if errno == ECONNRESET
                && is_held(established_ns, heard_ns, time_ns)
                && answers_a_close(heard_ns, time_ns)
                && socket.is_unacknowledged()
            {
                return End::PeerClosed;
            }
            if errno != 0 {
                return End::from_errno(errno);
            }
            // Nobody closed it here, and the errno is gone: a client asks for it as soon as the
            // connection is made.
            if !socket.is_shut_down() {
                return End::Reset;
            }
        }
        Closing::LocalFin => {}
    }
    if socket.is_exiting() {
        End::Exiting
    } else {
        End::LocalClosed
    }
}

/// How far a connection that ends at `time_ns` had come: `phase` is what its events said,
/// `established_ns` when its handshake completed (0: before anybody looked), `heard_ns` when the peer
/// was last heard.
#[inline(always)]
pub const fn phase_at_end(phase: Phase, established_ns: u64, heard_ns: u64, time_ns: u64) -> Phase {
    match phase {
        Phase::Connecting => Phase::Connecting,
        Phase::Established | Phase::Held if is_held(established_ns, heard_ns, time_ns) => {
            Phase::Held
        }
        Phase::Established | Phase::Held => Phase::Established,
    }
}

#[inline(always)]
const fn is_held(established_ns: u64, heard_ns: u64, time_ns: u64) -> bool {
    heard_ns != NEVER_HEARD && time_ns.wrapping_sub(established_ns) >= HOLD_NS
}

/// `include/uapi/asm-generic/errno.h`.
const ECONNRESET: u16 = 104;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CLOSE_ANSWER_NS;

    /// A socket of which everything is known beforehand.
    #[derive(Clone, Copy, Debug, Default)]
    struct Socket {
        errno: u16,
        soft_errno: u16,
        shut_down: bool,
        exiting: bool,
        syn_overdue: bool,
        connect_running: bool,
        unacknowledged: bool,
    }

    impl Evidence for Socket {
        fn errno(&self) -> u16 {
            self.errno
        }
        fn soft_errno(&self) -> u16 {
            self.soft_errno
        }
        fn is_shut_down(&self) -> bool {
            self.shut_down
        }
        fn is_exiting(&self) -> bool {
            self.exiting
        }
        fn is_syn_overdue(&self) -> bool {
            self.syn_overdue
        }
        fn is_connect_running(&self) -> bool {
            self.connect_running
        }
        fn is_unacknowledged(&self) -> bool {
            self.unacknowledged
        }
    }

    /// What is added to a socket's evidence, so that a case names only what it is about.
    impl Socket {
        fn error(self, errno: u16) -> Self {
            Self { errno, ..self }
        }
        fn icmp(self, soft_errno: u16) -> Self {
            Self { soft_errno, ..self }
        }
        fn shut_down(self) -> Self {
            let shut_down = true;
            Self { shut_down, ..self }
        }
        fn exiting(self) -> Self {
            let exiting = true;
            Self { exiting, ..self }
        }
        fn syn_overdue(self) -> Self {
            let syn_overdue = true;
            Self {
                syn_overdue,
                ..self
            }
        }
        fn connect_running(self) -> Self {
            let connect_running = true;
            Self {
                connect_running,
                ..self
            }
        }
        fn unacknowledged(self) -> Self {
            let unacknowledged = true;
            Self {
                unacknowledged,
                ..self
            }
        }
    }

    fn socket() -> Socket {
        Socket::default()
    }

    /// One row for each failure whose socket was looked at on real kernels.
    #[test]
    fn each_failed_attempt_is_what_its_socket_shows() {
        let closed = socket().shut_down();
        for (case, socket, end, errno) in [
            (
                "a RST answers the SYN",
                socket().error(111),
                End::Refused,
                111,
            ),
            (
                "the kernel gives up",
                socket().error(110).syn_overdue(),
                End::TimedOut,
                110,
            ),
            (
                "no neighbour",
                socket().error(113).syn_overdue(),
                End::HostUnreachable,
                113,
            ),
            (
                "destroyed by the node",
                socket().error(103),
                End::Aborted,
                103,
            ),
            (
                "the client's timeout",
                closed.syn_overdue(),
                End::Unanswered,
                0,
            ),
            ("a cancelled dial", closed, End::Abandoned, 0),
            ("an ICMP error", closed.icmp(111), End::Refused, 111),
            (
                "one, SYN sent again",
                closed.icmp(113).syn_overdue(),
                End::HostUnreachable,
                113,
            ),
            (
                "its process ends",
                closed.icmp(111).syn_overdue().exiting(),
                End::Exiting,
                0,
            ),
            (
                "an ICMP error, taken",
                socket().icmp(111),
                End::Refused,
                111,
            ),
            ("nothing is known", socket(), End::Other, 0),
        ] {
            assert_eq!(end_of_attempt(&socket), Some((end, errno)), "{case}");
        }
    }

    #[test]
    fn a_failure_inside_connect_is_left_to_its_return() {
        let inside = socket().connect_running();
        assert_eq!(end_of_attempt(&inside), None);
        // Unless the socket says why: its return then finds nothing left to report.
        for reported in [inside.error(111), inside.shut_down(), inside.icmp(113)] {
            assert!(end_of_attempt(&reported).is_some(), "{reported:?}");
        }
    }

    const NOW: u64 = 1_000_000_000_000;
    /// When the handshake of a connection completed that is held, and of one that is not yet.
    const HELD: u64 = NOW - HOLD_NS;
    const FRESH: u64 = HELD + 1;

    #[test]
    fn each_end_is_what_its_socket_shows() {
        let closed = socket().shut_down();
        for (case, closing, socket, expected) in [
            ("a FIN", Closing::PeerFin, socket(), End::PeerClosed),
            (
                "a FIN, late",
                Closing::PeerFin,
                closed.error(104).exiting(),
                End::PeerClosed,
            ),
            ("a close", Closing::LocalFin, closed, End::LocalClosed),
            (
                "a close, an errno left",
                Closing::LocalFin,
                closed.error(113),
                End::LocalClosed,
            ),
            (
                "its process ends",
                Closing::LocalFin,
                closed.exiting(),
                End::Exiting,
            ),
            (
                "data left unread",
                Closing::Abrupt,
                closed,
                End::LocalClosed,
            ),
            (
                "the same, process ends",
                Closing::Abrupt,
                closed.exiting(),
                End::Exiting,
            ),
            ("a reset", Closing::Abrupt, socket().error(104), End::Reset),
            (
                "a reset, errno taken",
                Closing::Abrupt,
                socket(),
                End::Reset,
            ),
            (
                "a blackhole",
                Closing::Abrupt,
                socket().error(110),
                End::TimedOut,
            ),
            (
                "unreachable",
                Closing::Abrupt,
                socket().error(113),
                End::HostUnreachable,
            ),
            (
                "destroyed by the node",
                Closing::Abrupt,
                socket().error(103),
                End::Aborted,
            ),
        ] {
            let end = end_of_connection(closing, HELD, NOW - 3_000_000_000, NOW, &socket);
            assert_eq!(end, expected, "{case}");
        }
    }

    #[test]
    fn a_reset_that_follows_the_peers_word_is_its_close() {
        let end =
            |since, heard, socket| end_of_connection(Closing::Abrupt, since, heard, NOW, &socket);
        let heard = NOW - CLOSE_ANSWER_NS;
        let reset = socket().error(104).unacknowledged();
        assert_eq!(end(HELD, heard, reset), End::PeerClosed);
        // Each of what makes it one, left out.
        let acknowledged = socket().error(104);
        let blackhole = socket().error(110).unacknowledged();
        for (case, since, heard, socket, expected) in [
            ("too late", HELD, heard - 1, reset, End::Reset),
            ("never heard", HELD, NEVER_HEARD, reset, End::Reset),
            ("not held", FRESH, heard, reset, End::Reset),
            ("nothing answered", HELD, heard, acknowledged, End::Reset),
            ("no reset", HELD, heard, blackhole, End::TimedOut),
        ] {
            assert_eq!(end(since, heard, socket), expected, "{case}");
        }
    }

    #[test]
    fn a_connection_is_held_once_it_stays_open_after_an_answer() {
        let heard = NOW - 1;
        for (phase, established, heard, expected) in [
            (Phase::Connecting, 0, NEVER_HEARD, Phase::Connecting),
            (Phase::Connecting, 0, heard, Phase::Connecting),
            (Phase::Established, HELD, heard, Phase::Held),
            (Phase::Established, FRESH, heard, Phase::Established),
            (Phase::Established, HELD, NEVER_HEARD, Phase::Established),
            // Older than the agent.
            (Phase::Established, 0, heard, Phase::Held),
        ] {
            assert_eq!(phase_at_end(phase, established, heard, NOW), expected);
        }
    }
}
