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
    /// The errno that was reported to the application while the socket was open; 0 without one.
    fn reported_errno(&self) -> u16;
    /// The errno of an ICMP error that arrived while connect() was running; 0 without one.
    fn soft_errno(&self) -> u16;
    /// `sk_err_soft`, of which the application was not told; 0 without one. A retransmission that
    /// finds no route leaves one (`inet_sk_rebuild_header()`, `net/ipv4/af_inet.c`).
    fn untold_errno(&self) -> u16;
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
        // retransmissions tell a time-out from a cancellation. What the client was not told made it
        // wait, not fail: it explains a dial that no time-out does.
        let soft_errno = socket.soft_errno();
        let untold_errno = socket.untold_errno();
        return Some(if socket.is_exiting() {
            (End::Exiting, 0)
        } else if soft_errno != 0 {
            (End::from_errno(soft_errno), soft_errno)
        } else if socket.is_syn_overdue() {
            (End::Unanswered, 0)
        } else if untold_errno != 0 {
            (End::from_errno(untold_errno), untold_errno)
        } else {
            (End::Abandoned, 0)
        });
    }
    // connect() has returned before, and a late ICMP error's errno is gone: the client has taken it
    // already, as after a handshake. Its report was seen, or it is the same as that of the first SYN.
    for errno in [
        socket.reported_errno(),
        socket.soft_errno(),
        socket.untold_errno(),
    ] {
        if errno != 0 {
            return Some((End::from_errno(errno), errno));
        }
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
            // connection is made, or as it is told that there is one.
            if !socket.is_shut_down() {
                return match socket.reported_errno() {
                    0 => End::Reset,
                    reported => End::from_errno(reported),
                };
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
#[path = "ending_tests.rs"]
mod tests;
