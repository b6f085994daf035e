//! Retransmissions: counted all, told when they amount to a stall.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use statlink_ebpf::{RecordKind, STALL_TIMEOUTS};

use crate::{
    account::{Detail, find, kept, now, tell},
    sock::{Sock, TCP_SYN_SENT},
};

/// `void tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb, ..)`
///
/// `include/trace/events/tcp.h`, since 4.15; from `__tcp_retransmit_skb()`, tail-loss probes
/// included. One event may be of several segments; of none, where 6.18 also tells of what could not
/// be sent; and before, what could not be sent is not told at all. So the segments are counted by
/// the socket's own count.
///
/// `icsk_retransmits` counts the timeouts in a row, this one included, and stays 0 at a probe or a
/// fast retransmission. The current task is whoever was running.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub(crate) fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument is a `struct sock *`, never null.
    if let Some(sock) = unsafe { Sock::watched(ctx.arg::<*const c_void>(0)) } {
        try_retransmit(sock);
    }
    0
}

#[inline(always)]
fn try_retransmit(sock: Sock) -> Option<()> {
    let mut known = find(sock.key())?;
    let tcp = sock.tcp()?;
    known.count_retransmits(tcp.total_retransmits());
    // SAFETY: a live map value; the socket's lock is held, as at all that write this field.
    unsafe { (*kept(sock.key())?).retransmits = known.connection.retransmits };
    if !known.account.is_told() || sock.state() == TCP_SYN_SENT {
        return None;
    }
    let timeouts = tcp.timeouts();
    // Told once: what follows is the same stall, and samples tell when it heals.
    if timeouts == STALL_TIMEOUTS {
        let mut detail = Detail::new(RecordKind::RetransmissionTimeout, now());
        detail.timeouts = timeouts;
        let wake = known.account.urgency();
        tell(sock.key(), &known.connection, &detail, wake);
    }
    Some(())
}
