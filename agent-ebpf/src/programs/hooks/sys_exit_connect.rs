//! connect() returns: the errno of an attempt that failed inside it.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use statlink_ebpf::{
    Source,
    decide::{ConnectReturn, connect_return},
};

use super::{
    connect_failure::{note_soft_error, report_failure},
    tracepoint::field,
};
use crate::{calls, connections::OpenConnection, task};

/// `long ret`
///
/// Source: `events/syscalls/sys_exit_connect/format` of tracefs: the return value from byte 16. Since
/// 4.7 for BPF; needs tracefs.
///
/// Why here: the only place with the errno of a failure inside connect(): no route, a policy, no
/// local port, or an ICMP error that arrives before it returns. None of these leaves an errno in
/// the socket, and the first two do not even change its state.
///
/// What holds: the current thread is the caller; if it sent a SYN, it still owns the socket.
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
        ConnectReturn::InProgress => return note_soft_error(call.sock),
        ConnectReturn::Undecided => return None,
        ConnectReturn::Failed(errno) => errno,
    };
    // If a SYN was sent, its end may have been reported at the state change, and the connection is
    // not found. Without a SYN, the socket had no event before.
    let open = if call.sock != 0 {
        OpenConnection::find(call.sock)?
    } else {
        // No descriptor, or a socket of another protocol: nothing was dialled.
        if !task::is_tcp_socket(call.fd) {
            return None;
        }
        let source = Source {
            netns: call.netns,
            tgid: task::process(thread),
        };
        OpenConnection::begin(source, call.peer, call.time_ns, call.time_ns)?
    };
    report_failure(&open, call.sock, errno)
}
