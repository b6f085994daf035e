//! connect() returns: the errno of an attempt that failed inside it.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use aya_log_ebpf::debug;
use statlink_ebpf::{
    ConnectCall, End, Source,
    decide::{ConnectReturn, connect_return},
};

use super::tracepoint::field;
use crate::{
    calls,
    connections::{OpenConnection, kept},
    constants::offset,
    memory::read_kernel,
    sock::errno,
    task,
};

/// `long ret`
///
/// Source: `events/syscalls/sys_exit_connect/format` of tracefs: the return value from byte 16. Since
/// 4.7 for BPF; needs tracefs.
///
/// Why here: the only place that has the errno of a failure inside connect(): no route, a policy, no
/// local port, or an ICMP error that arrives before it returns. None of these leaves an errno in the
/// socket, and the first two not even a change of state.
///
/// What holds: the current thread is the caller; if it sent a SYN, the socket is still its own.
#[tracepoint(category = "syscalls", name = "sys_exit_connect")]
pub(crate) fn sys_exit_connect(ctx: TracePointContext) -> u32 {
    try_exit_connect(&ctx);
    0
}

#[inline(always)]
fn try_exit_connect(ctx: &TracePointContext) -> Option<()> {
    let thread = task::thread();
    let call = calls::leave(thread)?;
    // SAFETY: the record of this tracepoint is 24 bytes long.
    let returned = unsafe { field(ctx, 16) }.cast_signed();
    let errno = match connect_return(returned) {
        ConnectReturn::InProgress => return note_soft_error(&call),
        ConnectReturn::Undecided => return None,
        ConnectReturn::Failed(errno) => errno,
    };
    let end = End::from_errno(errno);
    debug!(&(), "connect returned {}: end {}", returned, end as u8);
    // With a SYN sent, its end may have been reported at the state change: then it is not found.
    // Without one, no socket's event came before.
    let open = if call.sock != 0 {
        OpenConnection::find(call.sock)?
    } else {
        // No descriptor, or another protocol's socket: nothing was dialled.
        if !task::is_tcp_socket(call.fd) {
            return None;
        }
        let source = Source {
            netns: call.netns,
            tgid: task::process(thread),
        };
        OpenConnection::begin(source, call.peer, call.time_ns, call.time_ns)?
    };
    open.end(call.sock, &open.unheard_end(end, errno));
    Some(())
}

/// An ICMP error that arrives while connect() holds the socket does not end the attempt: it is
/// left in `sk_err_soft`, for the client to find by `SO_ERROR`, which clears it (`tcp_v4_err()`,
/// `net/ipv4/tcp_ipv4.c`). A non-blocking client then closes.
#[inline(always)]
fn note_soft_error(call: &ConnectCall) -> Option<()> {
    if call.sock == 0 {
        return None;
    }
    let sock = call.sock as *const u8;
    let soft_errno = errno(read_kernel(sock.wrapping_add(offset!(sock_err_soft)))?);
    if soft_errno == 0 {
        return None;
    }
    debug!(&(), "connect in progress with a soft error {}", soft_errno);
    let connection = kept(call.sock)?;
    // SAFETY: a live map value; no other event of this socket writes this field.
    unsafe { (*connection).soft_errno = soft_errno };
    Some(())
}
