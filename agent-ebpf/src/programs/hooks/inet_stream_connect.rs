//! connect() of a stream socket has returned: the errno of an attempt that failed inside it.

use core::ffi::c_void;

use aya_ebpf::{macros::fexit, programs::FExitContext};
use statlink_ebpf::{
    Source,
    decide::{ConnectReturn, connect_return},
};

use super::connect_failure::{note_soft_error, report_failure};
use crate::{
    calls,
    connections::{OpenConnection, kept},
    constants::{offset, port},
    memory::{load, read_kernel},
    records::now,
    sock::{is_tcp, peer_of, tcp_of},
    task,
};

/// `int inet_stream_connect(struct socket *sock, struct sockaddr *uaddr, int addr_len, int flags)`
///
/// Source: `net/ipv4/af_inet.c`; `uaddr` is a `struct sockaddr_unsized *` since 6.19. The `connect` of
/// TCP's sockets in both address families, of MPTCP's since 6.6, and of io_uring's calls. fexit loads on
/// x86-64 since 5.5, on arm64 since 6.4.
///
/// Why here: like `sys_exit_connect`, this is the only place with the errno of a failure inside
/// connect(). Unlike that hook, it costs only processes that connect a stream socket: a tracepoint
/// of a system call slows every system call of every process. A refusal by a security module does
/// not come here.
///
/// What holds: the current thread is the caller, and `uaddr` is the kernel's own copy. The socket's
/// lock is no longer held. A SYN that was sent left a call of this thread or, without room for one,
/// a mark in its connection: see `inet_sock_set_state`.
#[fexit(function = "inet_stream_connect")]
pub(crate) fn inet_stream_connect(ctx: FExitContext) -> i32 {
    let address = ctx.arg::<*const u8>(1);
    // SAFETY: the first argument is a `struct socket *`, never null.
    if let Some(sock) = unsafe { dialled(ctx.arg(0), address, port()) } {
        // The argument after the last one is the return value.
        try_returned(sock, address, i64::from(ctx.arg::<i32>(4)));
    }
    0
}

/// The socket behind `socket`, if it dialled `port`. After a failed dial the socket has no port any
/// more, so this reads the address, which costs ten times as much.
///
/// # Safety
///
/// `socket` must be BTF-typed as `struct socket *`, and not null.
#[inline(always)]
pub(super) unsafe fn dialled(
    socket: *const c_void,
    address: *const u8,
    port: u16,
) -> Option<*const u8> {
    // SAFETY: by contract; the verifier types the member.
    let sock: *const u8 = unsafe { load(socket.cast(), offset!(socket_sk)) };
    if sock.is_null() {
        return None;
    }
    // SAFETY: typed as `struct sock *`, and not null.
    let dport: u16 = unsafe { load(sock, offset!(sock_dport)) };
    if dport != port.to_be() {
        if dport != 0 {
            return None;
        }
        // Family and port come first in both address families.
        let [_, dport]: [u16; 2] = read_kernel(address)?;
        if dport != port.to_be() {
            return None;
        }
    }
    Some(sock)
}

#[inline(always)]
fn try_returned(sock: *const u8, address: *const u8, returned: i64) -> Option<()> {
    let thread = task::thread();
    let dialled = match calls::leave(thread) {
        Some(call) => Some(call.sock),
        None => leave_unkept(sock),
    };
    let errno = match connect_return(returned) {
        ConnectReturn::InProgress => return note_soft_error(dialled?),
        ConnectReturn::Undecided => return None,
        ConnectReturn::Failed(errno) => errno,
    };
    // If a SYN was sent, its end may have been reported at the state change, and the connection is
    // not found. Without a SYN, the socket had no event before.
    if let Some(dialled) = dialled {
        return report_failure(&OpenConnection::find(dialled)?, dialled, errno);
    }
    // SAFETY: `dialled` gave it.
    let protocol: u16 = unsafe { load(sock, offset!(sock_protocol)) };
    if !is_tcp(protocol) {
        return None;
    }
    let peer = peer_of(address)?;
    let source = Source {
        netns: task::netns()?,
        tgid: task::process(thread),
    };
    let time_ns = now();
    let open = OpenConnection::begin(source, peer, time_ns, time_ns)?;
    report_failure(&open, 0, errno)
}

/// The socket that sent this call's SYN, if no call was kept; `None` without a SYN.
#[inline(always)]
fn leave_unkept(application: *const u8) -> Option<u64> {
    let sock = tcp_of(application)? as u64;
    let connection = kept(sock)?;
    // SAFETY: a live map value; written before the SYN, and then only by this call's return.
    let in_unkept_call = unsafe { &mut (*connection).in_unkept_call };
    let unkept = *in_unkept_call != 0;
    *in_unkept_call = 0;
    unkept.then_some(sock)
}
