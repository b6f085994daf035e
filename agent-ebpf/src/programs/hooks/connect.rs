//! The connect() syscall: when an attempt began, and the errno of one that failed in line.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task,
        generated::{bpf_probe_read_kernel, bpf_probe_read_user},
    },
    macros::tracepoint,
    programs::TracePointContext,
};
use aya_log_ebpf::debug;
use statlink_ebpf::{ConnectCall, End, Loss, NAME_SERVER_PORT, NEVER_HEARD, RecordKind, Source};

use crate::{
    account::{Account, Detail, Wake, begin, end, find, kept, nothing_of, now, tell},
    maps::{CALLS, lose, offset, port},
    sock::mapped,
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Returns of connect() that are no failure of the attempt: it goes on, or it was made before.
const EINTR: i64 = -4;
const EISCONN: i64 = -106;
const EALREADY: i64 = -114;
const EINPROGRESS: i64 = -115;
/// Kernel-internal: the syscall is restarted after a signal.
const ERESTARTSYS: i64 = -512;

/// `int connect(int fd, struct sockaddr *uservaddr, int addrlen)`
///
/// `events/syscalls/sys_enter_connect/format` of tracefs: three registers from byte 16. Before
/// anything else is known of the attempt; the current task is its owner.
#[tracepoint(category = "syscalls", name = "sys_enter_connect")]
pub(crate) fn sys_enter_connect(ctx: TracePointContext) -> u32 {
    try_enter(&ctx);
    0
}

/// `syscalls:sys_exit_connect`: the return value, from byte 16.
///
/// The only place that has the errno of a failure inside connect(): no route, a policy, no local
/// port, or an ICMP error that arrives before it returns.
#[tracepoint(category = "syscalls", name = "sys_exit_connect")]
pub(crate) fn sys_exit_connect(ctx: TracePointContext) -> u32 {
    try_exit(&ctx);
    0
}

#[inline(always)]
fn try_enter(ctx: &TracePointContext) -> Option<()> {
    // SAFETY: the record of this tracepoint is 40 bytes long.
    let (address, length) = unsafe { (field(ctx, 24), field(ctx, 32)) };
    let address = address as *const u8;
    // `family` and `port` stand first in both address families.
    let head: [u16; 2] = read_user(address)?;
    let [family, be_port] = head;
    if be_port != port().to_be() {
        if be_port == NAME_SERVER_PORT.to_be() {
            return look_up();
        }
        return None;
    }
    let peer = match family {
        AF_INET if length >= 16 => mapped(read_user(address.wrapping_add(4))?),
        AF_INET6 if length >= 24 => read_user(address.wrapping_add(8))?,
        _ => return None,
    };
    let call = ConnectCall {
        time_ns: now(),
        sock: 0,
        peer,
    };
    if CALLS.insert(bpf_get_current_pid_tgid(), &call, 0).is_err() {
        lose(Loss::CallsFull);
    }
    Some(())
}

/// Go's resolver connects a UDP socket to the name server for each query. It is not asked whether
/// the socket is UDP: a query over TCP is a query.
#[inline(always)]
fn look_up() -> Option<()> {
    let source = Source {
        netns: current_netns()?,
        tgid: (bpf_get_current_pid_tgid() >> 32) as u32,
    };
    let account = Account::asked_for(&source)?;
    let time_ns = now();
    if !account.note_lookup(time_ns) {
        return None;
    }
    let detail = Detail::new(RecordKind::LookedUp, time_ns);
    // It is what does not follow that tells something, and that takes seconds.
    tell(0, &nothing_of(&source), &detail, Wake::Later);
    Some(())
}

#[inline(always)]
fn try_exit(ctx: &TracePointContext) -> Option<()> {
    let pid_tgid = bpf_get_current_pid_tgid();
    let call = CALLS.get_ptr(pid_tgid)?;
    // SAFETY: a live map value that only this thread's own connect() touches.
    let call = unsafe { *call };
    let _ = CALLS.remove(pid_tgid);
    // SAFETY: the record of this tracepoint is 24 bytes long.
    let returned = unsafe { field(ctx, 16) } as i64;
    if returned == EINPROGRESS {
        return note_soft_error(&call);
    }
    if returned >= 0 || matches!(returned, EINTR | EISCONN | EALREADY | ERESTARTSYS) {
        return None;
    }
    let errno = returned.unsigned_abs() as u16;
    let how = End::from_errno(errno);
    debug!(&(), "connect returned {}: end {}", returned, how as u8);
    if call.sock != 0 {
        // Unless its end was told at the state change.
        let known = find(call.sock)?;
        end(call.sock, &known, how, errno, 0, NEVER_HEARD);
        return Some(());
    }
    // No SYN, so no socket event came before.
    let source = Source {
        netns: current_netns()?,
        tgid: (pid_tgid >> 32) as u32,
    };
    let known = begin(&source, call.peer, call.time_ns, call.time_ns)?;
    end(0, &known, how, errno, 0, NEVER_HEARD);
    Some(())
}

/// An ICMP error that arrives while connect() holds the socket does not end the attempt: it is
/// left in `sk_err_soft`, for the dialler to find by `SO_ERROR`, which clears it
/// (`tcp_v4_err()`, `net/ipv4/tcp_ipv4.c`). A non-blocking dialler then closes.
#[inline(always)]
fn note_soft_error(call: &ConnectCall) -> Option<()> {
    if call.sock == 0 {
        return None;
    }
    let sock = call.sock as *const u8;
    let errno: i32 = read_kernel(sock.wrapping_add(offset!(sock_err_soft)))?;
    if errno == 0 {
        return None;
    }
    debug!(&(), "connect in progress with a soft error {}", errno);
    // SAFETY: a live map value; no other event of this socket writes this field.
    unsafe { (*kept(call.sock)?).soft_errno = errno as u16 };
    Some(())
}

/// The 8 bytes at `at` of a tracepoint's record.
///
/// # Safety
///
/// The record must reach that far; the verifier checks it at attach.
#[inline(always)]
unsafe fn field(ctx: &TracePointContext, at: usize) -> u64 {
    // SAFETY: by contract.
    unsafe { core::ptr::read_volatile(ctx.as_ptr().cast::<u8>().add(at).cast::<u64>()) }
}

/// Inode number of the current task's network namespace.
#[inline(always)]
fn current_netns() -> Option<u32> {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let nsproxy: *const u8 = read_kernel(task.wrapping_add(offset!(task_nsproxy)))?;
    let net: *const u8 = read_kernel(nsproxy.wrapping_add(offset!(nsproxy_net_ns)))?;
    read_kernel(net.wrapping_add(offset!(net_inum)))
}

#[inline(always)]
fn read_user<T: Copy>(from: *const u8) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes `size_of::<T>()` bytes, zeros where it cannot read.
    let failed = unsafe {
        bpf_probe_read_user(
            value.as_mut_ptr().cast::<c_void>(),
            size_of::<T>() as u32,
            from.cast(),
        )
    };
    // SAFETY: written in full, and `T` is integers.
    (failed == 0).then_some(unsafe { value.assume_init() })
}

#[inline(always)]
pub(crate) fn read_kernel<T: Copy>(from: *const u8) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes `size_of::<T>()` bytes, zeros where it cannot read.
    let failed = unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast::<c_void>(),
            size_of::<T>() as u32,
            from.cast(),
        )
    };
    // SAFETY: written in full, and `T` is integers or a pointer that is only ever read through
    // this function.
    (failed == 0).then_some(unsafe { value.assume_init() })
}
