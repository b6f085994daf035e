//! The kernel tells whoever waits for a socket of an error: its errno, before the client takes it.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{connections::kept, sock::Sock};

/// `void inet_sk_error_report(const struct sock *sk)`
///
/// Source: `include/trace/events/sock.h`, called from `sk_error_report()` in `net/core/sock.c`. The
/// tracepoint is there since 5.14.
///
/// Why here: `getsockopt(SO_ERROR)` takes `sk_err` without a lock, and may come before the change of state.
/// Up to 6.10 ICMP errors and time-outs were reported before that (`tcp_v4_err()` in `net/ipv4/tcp_ipv4.c`,
/// `tcp_v6_err()`, `tcp_write_err()` in `net/ipv4/tcp_timer.c`), and the report wakes the client. Since 6.11,
/// and in older series that got its fixes, `tcp_done_with_error()` reports after it: there this notes the
/// errno of a connection whose change of state was left out. It costs nothing where there is no error.
///
/// What holds: those who wait have been woken, a moment ago, and the errno may be gone even so; then 0 is
/// found, and nothing noted. The socket's lock is held. The current task is whoever was running.
#[btf_tracepoint(function = "inet_sk_error_report")]
pub(crate) fn inet_sk_error_report(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument is a `struct sock *`, never null.
    if let Some(sock) = unsafe { Sock::watched(ctx.arg::<*const c_void>(0)) } {
        try_error_report(sock);
    }
    0
}

#[inline(always)]
fn try_error_report(sock: Sock) -> Option<()> {
    let errno = sock.error();
    if errno == 0 {
        return None;
    }
    let connection = kept(sock.key())?;
    // SAFETY: a live map value; the socket's lock is held, and no other program writes this field.
    unsafe { (*connection).reported_errno = errno };
    Some(())
}
