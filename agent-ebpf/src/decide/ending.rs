//! How an attempt failed or a connection ended, from what its socket still shows.

use super::heard::{NEVER_HEARD, answers_a_close};
use crate::{
    limits::HOLD_NS,
    wire::{End, Phase},
};

/// What a socket shows at its end. Each fact is fetched on demand: in the kernel it costs a load or
/// a helper call.
pub trait Evidence {
    /// `sk_err`; 0 if there is none. The application's `SO_ERROR` clears it without a lock, so it
    /// may be gone.
    fn errno(&self) -> u16;
    /// The errno that was reported to the application while the socket was open; 0 if there was
    /// none.
    fn reported_errno(&self) -> u16;
    /// The errno of an ICMP error that arrived during connect(); 0 if there was none.
    fn soft_errno(&self) -> u16;
    /// `sk_err_soft`, which the application has not seen; 0 if there is none. A retransmission that
    /// finds no route leaves one (`inet_sk_rebuild_header()`, `net/ipv4/af_inet.c`).
    fn untold_errno(&self) -> u16;
    /// Whether this side has shut the socket down, as close() does.
    fn is_shut_down(&self) -> bool;
    /// Whether the task that closes the socket is ending.
    fn is_exiting(&self) -> bool;
    /// Whether a second SYN was due.
    fn is_syn_overdue(&self) -> bool;
    /// Whether the connect() of this attempt has not returned yet, and its return will be seen.
    fn is_connect_running(&self) -> bool;
    /// Whether the peer owes an acknowledgement of data.
    fn is_unacknowledged(&self) -> bool;
}

/// How an attempt failed, and its errno; `None` if the return of connect() will say it.
#[inline(always)]
pub fn end_of_attempt(socket: &impl Evidence) -> Option<(End, u16)> {
    let errno = socket.errno();
    if errno != 0 {
        return Some((End::from_errno(errno), errno));
    }
    if socket.is_shut_down() {
        // The client closed the socket. If it may have read an ICMP error, that is the reason.
        // Otherwise only the retransmissions distinguish a timeout from a cancellation. An error
        // that the client has not seen made it wait, not fail: it explains a dial only if no
        // timeout does.
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
    // connect() has returned already, and the errno of a late ICMP error is gone: the client has
    // taken it, as after a handshake. The kernel's report of it was seen, or it equals the errno
    // for the first SYN.
    for errno in [
        socket.reported_errno(),
        socket.soft_errno(),
        socket.untold_errno(),
    ] {
        if errno != 0 {
            return Some((End::from_errno(errno), errno));
        }
    }
    // It failed inside connect() (an ICMP error, no local port): the return value has the errno.
    if socket.is_connect_running() {
        return None;
    }
    Some((End::Other, 0))
}

/// What ended the established state of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The peer's FIN.
    PeerFin,
    /// This side's FIN.
    LocalFin,
    /// No FIN: a reset, an error, or this side's close with unread data, which sends a reset
    /// instead of a FIN.
    Abrupt,
}

/// How an established connection ended at `time_ns`. Its handshake completed at `established_ns`,
/// and the peer was last heard at `heard_ns`, both as for [`phase_at_end`].
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
            // See `CLOSE_ANSWER_NS`. Resets come at any moment, and a pong is also data from the
            // peer: by time alone, one reset in two hundred passed for a close. So the data that
            // this side sent in answer must also be unacknowledged.
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
            // This side did not close it, and the errno is gone: a client reads it as soon as the
            // connection is made, or when the kernel reports it.
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

/// How far a connection had come that ends at `time_ns`: `phase` by its events, `established_ns`
/// when its handshake completed (0: not seen), `heard_ns` when the peer was last heard.
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
