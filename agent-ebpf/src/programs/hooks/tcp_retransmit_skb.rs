//! Retransmissions: all are counted, and the one that makes a stall is recorded.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use statlink_ebpf::{
    RecordKind,
    decide::{is_stall, open_phase},
};

use crate::{
    connections::{OpenConnection, kept},
    records::{RecordFields, now, report},
    sock::Sock,
};

/// `void tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb, …)`
///
/// Source: `include/trace/events/tcp.h`, called from `__tcp_retransmit_skb()` in
/// `net/ipv4/tcp_output.c`, tail-loss probes included. The tracepoint is there since 4.15, typed by
/// BTF since 5.5; 6.18 has a third argument.
///
/// Why here: the kernel itself knows that data goes unacknowledged, long before any timer of
/// userspace, and nothing runs per packet.
///
/// What holds: one event may cover several segments, or none: 6.18 also reports what could not be
/// sent, and older kernels do not report that at all. So segments are counted by the socket's own
/// counter. `icsk_retransmits` counts the timeouts in a row, this one included, and stays 0 at a
/// probe or a fast retransmission. The socket is locked. The current task is whichever was running.
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
    let mut open = OpenConnection::find(sock.key())?;
    let tcp = sock.tcp()?;
    if open.count_retransmits(tcp.total_retransmits()) {
        let connection = kept(sock.key())?;
        // SAFETY: a live map value; the socket's lock is held, as by all writers of this field.
        unsafe { (*connection).retransmits = open.connection.retransmits };
    }
    let timeouts = tcp.timeouts();
    if open.account.recorded && is_stall(open_phase(sock.state()), timeouts) {
        let mut fields = RecordFields::new(RecordKind::RetransmissionTimeout, now());
        fields.timeouts = timeouts;
        report(sock.key(), &open.connection, &fields, open.account.tracked);
    }
    Some(())
}
