//! The kernel reports a socket's error to the tasks that wait for it: the errno, before the client
//! takes it.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{connections::kept, sock::Sock};

/// `void inet_sk_error_report(const struct sock *sk)`
///
/// Source: `include/trace/events/sock.h`, called from `sk_error_report()` in `net/core/sock.c`. The
/// tracepoint is there since 5.14.
///
/// Why here: `getsockopt(SO_ERROR)` clears `sk_err` without a lock, possibly before the change of
/// state. Up to 6.10 the kernel reported ICMP errors and timeouts before that change
/// (`tcp_v4_err()` in `net/ipv4/tcp_ipv4.c`, `tcp_v6_err()`, `tcp_write_err()` in
/// `net/ipv4/tcp_timer.c`), and the report wakes the client. Since 6.11, and in older series with
/// its fixes, `tcp_done_with_error()` reports after it: there this program notes the errno of a
/// connection whose change of state was missed. It costs nothing without an error.
///
/// What holds: the waiting tasks were woken a moment ago, so the errno may be gone already; then
/// the program finds 0 and notes nothing. The socket's lock is held. The current task is whichever
/// was running.
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
