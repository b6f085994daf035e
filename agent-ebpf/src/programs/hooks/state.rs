//! TCP state changes: the attempt, its outcome, and the end of a connection.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use statlink_ebpf::{End, NEVER_HEARD, Phase, RecordKind, Source};

use crate::{
    account::{Detail, Known, Wake, begin, end, find, keep, now, phase, tell},
    hooks::connect::read_kernel,
    maps::{CALLS, offset},
    sock::{
        Sock, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_SYN_SENT, TcpSock,
    },
};

const ECONNRESET: u16 = 104;

/// `void inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
///
/// `include/trace/events/sock.h`, since 4.16. Every change of a TCP socket's state passes here,
/// whoever causes it, before the new state is stored: `sk_err` and the counters are still those of
/// the event. The current task is the socket's owner at CLOSE→SYN_SENT and at a local close only.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument is a `struct sock *`, never null.
    if let Some(sock) = unsafe { Sock::watched(ctx.arg::<*const c_void>(0)) } {
        try_set_state(sock, ctx.arg(1), ctx.arg(2));
    }
    0
}

#[inline(always)]
fn try_set_state(sock: Sock, old: i32, new: i32) -> Option<()> {
    if new == TCP_SYN_SENT {
        return attempted(sock);
    }
    if old != TCP_SYN_SENT && old != TCP_ESTABLISHED {
        // Passive opens, and what follows an end that was told already.
        return None;
    }
    let mut known = find(sock.key())?;
    let tcp = sock.tcp()?;
    known.count_retransmits(tcp.total_retransmits());
    let errno = sock.error();
    match (old, new) {
        (TCP_SYN_SENT, TCP_ESTABLISHED) => established(sock, &mut known),
        (TCP_SYN_SENT, TCP_CLOSE) => {
            let (how, errno) = failure(sock, tcp, errno, known.connection.soft_errno)?;
            debug!(
                &(),
                "state {} to {}: end {} errno {}", old, new, how as u8, errno
            );
            end(sock.key(), &known, how, errno, 0, NEVER_HEARD);
        }
        (TCP_ESTABLISHED, TCP_CLOSE_WAIT | TCP_FIN_WAIT1 | TCP_CLOSE) => {
            // That it was made may have been missed; that it leaves this state says so, too.
            known.connection.phase = Phase::Established as u8;
            let how = match new {
                TCP_CLOSE_WAIT => End::PeerClosed,
                TCP_CLOSE if errno == ECONNRESET && answers_a_close(tcp, &known) => End::PeerClosed,
                TCP_CLOSE if errno != 0 => End::from_errno(errno),
                // Nobody closed it here, and the errno is gone: who dials asks for it (`SO_ERROR`,
                // which takes it without a lock) as soon as the connection is made.
                TCP_CLOSE if !sock.shut_down() => End::Reset,
                // FIN_WAIT1; or CLOSE at once, when data was left unread (a RST is sent instead of
                // a FIN).
                _ if exiting() => End::Exiting,
                _ => End::LocalClosed,
            };
            debug!(
                &(),
                "state {} to {}: end {} errno {}", old, new, how as u8, errno
            );
            end(
                sock.key(),
                &known,
                how,
                errno,
                tcp.timeouts(),
                tcp.heard_ago(),
            );
        }
        _ => {}
    }
    Some(())
}

/// Whether a reset is what became of a close: a websocket's server says in a close frame that it
/// closes, the client answers at once, and with that answer unread the server's kernel resets
/// instead of finishing (`tcp_close()` in `net/ipv4/tcp.c`). The peer was heard in the last two
/// ticks, then, and what was sent since is not acknowledged.
#[inline(always)]
fn answers_a_close(tcp: TcpSock, known: &Known) -> bool {
    let heard_ago = tcp.heard_ago();
    phase(&known.connection, heard_ago, now()) as u8 == Phase::Held as u8
        && heard_ago <= 2
        && tcp.is_unacknowledged()
}

/// connect() is about to send a SYN; the current task is the owner.
#[inline(always)]
fn attempted(sock: Sock) -> Option<()> {
    let time_ns = now();
    let pid_tgid = bpf_get_current_pid_tgid();
    let mut attempted_ns = time_ns;
    if let Some(call) = CALLS.get_ptr_mut(pid_tgid) {
        // SAFETY: a live map value that only this thread's own connect() touches.
        let call = unsafe { &mut *call };
        call.sock = sock.key();
        attempted_ns = call.time_ns;
    }
    let source = Source {
        netns: sock.netns(),
        tgid: (pid_tgid >> 32) as u32,
    };
    let Known {
        connection,
        account,
    } = begin(&source, sock.peer(), time_ns, attempted_ns)?;
    keep(sock.key(), &connection, account.asked);
    if account.is_told() {
        let detail = Detail::new(RecordKind::Attempted, time_ns);
        tell(sock.key(), &connection, &detail, Wake::Later);
    }
    Some(())
}

#[inline(always)]
fn established(sock: Sock, known: &mut Known) {
    let time_ns = now();
    known.connection.phase = Phase::Established as u8;
    known.connection.established_ns = time_ns;
    keep(sock.key(), &known.connection, known.account.asked);
    if known.account.is_told() {
        let detail = Detail::new(RecordKind::Established, time_ns);
        let wake = known.account.urgency();
        tell(sock.key(), &known.connection, &detail, wake);
    }
}

/// Whether the current task, the owner of the socket that it closes, is ending: `PF_EXITING` of
/// `include/linux/sched.h`, set before its files are closed.
#[inline(always)]
fn exiting() -> bool {
    const PF_EXITING: u32 = 4;
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let flags: Option<u32> = read_kernel(task.wrapping_add(offset!(task_flags)));
    flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

/// How an attempt failed, and its errno; `None` if connect()'s exit will tell.
#[inline(always)]
fn failure(sock: Sock, tcp: TcpSock, errno: u16, soft_errno: u16) -> Option<(End, u16)> {
    if errno != 0 {
        return Some((End::from_errno(errno), errno));
    }
    if sock.shut_down() {
        // The dialler's close: an ICMP error it may have read is the reason; without one, only the
        // retransmissions tell a time-out from a cancellation. Where the neighbour does not answer,
        // the SYN still waits for it when it is due again: a timeout, and no retransmission
        // (`skb_still_in_host_queue()` in `net/ipv4/tcp_output.c`).
        return Some(if exiting() {
            (End::Exiting, 0)
        } else if soft_errno != 0 {
            (End::from_errno(soft_errno), soft_errno)
        } else if tcp.total_retransmits() > 0 || tcp.timeouts() > 0 {
            (End::Unanswered, 0)
        } else {
            (End::Abandoned, 0)
        });
    }
    // connect() has returned before, and a late ICMP error's errno is gone: the dialler has taken
    // it already, as after a handshake. It is the same as that of the first SYN.
    if soft_errno != 0 {
        return Some((End::from_errno(soft_errno), soft_errno));
    }
    // Refused inside connect() itself (an ICMP error, no local port): its exit has the errno, if
    // its entry was seen.
    let will_be_told = CALLS
        .get_ptr(bpf_get_current_pid_tgid())
        // SAFETY: a live map value that only this thread's own connect() touches.
        .is_some_and(|call| unsafe { (*call).sock } == sock.key());
    (!will_be_told).then_some((End::Other, 0))
}
