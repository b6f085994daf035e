//! Tests: how an attempt failed or a connection ended, one row for each way seen on real kernels.

use super::*;
use crate::limits::CLOSE_ANSWER_NS;

/// A socket with known evidence.
#[derive(Clone, Copy, Debug, Default)]
struct Socket {
    errno: u16,
    reported_errno: u16,
    soft_errno: u16,
    untold_errno: u16,
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
    fn reported_errno(&self) -> u16 {
        self.reported_errno
    }
    fn soft_errno(&self) -> u16 {
        self.soft_errno
    }
    fn untold_errno(&self) -> u16 {
        self.untold_errno
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

/// Adds evidence to a socket, so that a case names only what it is about.
impl Socket {
    fn error(self, errno: u16) -> Self {
        Self { errno, ..self }
    }
    fn taken(self, reported_errno: u16) -> Self {
        Self {
            reported_errno,
            ..self
        }
    }
    fn icmp(self, soft_errno: u16) -> Self {
        Self { soft_errno, ..self }
    }
    fn untold(self, untold_errno: u16) -> Self {
        Self {
            untold_errno,
            ..self
        }
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
            "no route for the second SYN",
            closed.untold(101).syn_overdue(),
            End::Unanswered,
            0,
        ),
        (
            "one that only the socket knows",
            closed.untold(113),
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
        (
            "one that was reported, taken",
            socket().taken(113),
            End::HostUnreachable,
            113,
        ),
        (
            "one that the client closed on",
            closed.taken(113).syn_overdue(),
            End::Unanswered,
            0,
        ),
        (
            "one that nobody took",
            socket().untold(113),
            End::HostUnreachable,
            113,
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
    // Unless the socket shows the reason: then the return value adds nothing.
    for reported in [inside.error(111), inside.shut_down(), inside.icmp(113)] {
        assert!(end_of_attempt(&reported).is_some(), "{reported:?}");
    }
}

const NOW: u64 = 1_000_000_000_000;
/// When the handshake completed, of a connection that is held and of one that is not yet.
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
            "a blackhole, errno taken",
            Closing::Abrupt,
            socket().taken(110),
            End::TimedOut,
        ),
        (
            "data left unread, an errno of before",
            Closing::Abrupt,
            closed.taken(110),
            End::LocalClosed,
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
    let end = |since, heard, socket| end_of_connection(Closing::Abrupt, since, heard, NOW, &socket);
    let heard = NOW - CLOSE_ANSWER_NS;
    let reset = socket().error(104).unacknowledged();
    assert_eq!(end(HELD, heard, reset), End::PeerClosed);
    // Each condition in turn is not met.
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
