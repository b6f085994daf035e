//! The end of a socket: nothing about its address holds any longer.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use statlink_ebpf::{End, NEVER_HEARD};

use crate::{
    account::{end, find},
    sock::Sock,
};

/// `void tcp_destroy_sock(struct sock *sk)`
///
/// `include/trace/events/tcp.h`, since 4.16; from `tcp_v4_destroy_sock()`, before the memory can be
/// used again. Ends are told at the state change; what is still known here is what the
/// enumeration put in while its end was under way.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub(crate) fn tcp_destroy_sock(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the argument is a `struct sock *`, never null.
    if let Some(sock) = unsafe { Sock::watched(ctx.arg::<*const c_void>(0)) }
        && let Some(known) = find(sock.key())
    {
        debug!(&(), "destroyed before its end was seen");
        end(sock.key(), &known, End::Other, 0, 0, NEVER_HEARD);
    }
    0
}
