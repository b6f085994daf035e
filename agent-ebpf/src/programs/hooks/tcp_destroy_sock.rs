//! The end of a socket: its address no longer identifies a connection.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use statlink_ebpf::End;

use crate::{connections::OpenConnection, sock::Sock};

/// `void tcp_destroy_sock(struct sock *sk)`
///
/// Source: `include/trace/events/tcp.h`, called from `tcp_v4_destroy_sock()` in `net/ipv4/tcp_ipv4.c`
/// (IPv6 ends there as well). The tracepoint is there since 4.16, typed by BTF since 5.5.
///
/// Why here: the last event before the memory can be used for another socket, within milliseconds.
/// Ends are reported at the state change. Connections that are still known here were added by the
/// enumeration during their end, or their change of state was missed.
///
/// What holds: a client that waits for its socket has taken `sk_err`. The errno reported to it was
/// noted, and a client that never asked has left it there.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub(crate) fn tcp_destroy_sock(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the argument is a `struct sock *`, never null.
    if let Some(sock) = unsafe { Sock::watched(ctx.arg::<*const c_void>(0)) } {
        try_destroy(sock);
    }
    0
}

#[inline(always)]
fn try_destroy(sock: Sock) -> Option<()> {
    let open = OpenConnection::find(sock.key())?;
    let errno = match open.connection.reported_errno {
        0 => sock.error(),
        reported => reported,
    };
    debug!(&(), "destroyed before its end was seen, errno {}", errno);
    open.end(sock.key(), &open.unheard_end(End::from_errno(errno), errno));
    Some(())
}
