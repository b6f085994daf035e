//! Connections that are older than the agent: of the sources asked for, and of who is overheard.

use core::ffi::c_void;

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::generated::bpf_sock_from_file};
use statlink_ebpf::{Connection, Loss, Phase, Source};

use crate::{
    account::now,
    maps::{CONNECTIONS, STRANGERS, TOTALS, lose, offset, port},
    sock::{Sock, TCP_ESTABLISHED, TCP_SYN_SENT},
};

/// `struct bpf_iter__task_file { meta; task; u32 fd; file }`, each in 8 bytes.
#[repr(C)]
struct TaskFile {
    meta: *const c_void,
    task: *const u8,
    fd: u32,
    file: *const c_void,
}

/// `iter/task_file`: every open file of every task, whatever its network namespace.
///
/// `kernel/bpf/task_iter.c`, since 5.8; `bpf_sock_from_file()` since 5.11. Runs in the reader's
/// context, so the task at hand, not the current one, is the socket's owner. `task` and `file`
/// are null at the end.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn enumerate(ctx: *const TaskFile) -> i32 {
    try_enumerate(ctx);
    0
}

#[inline(always)]
fn try_enumerate(ctx: *const TaskFile) -> Option<()> {
    // SAFETY: the iterator's context, as laid out above.
    let (task, file) = unsafe { ((*ctx).task, (*ctx).file) };
    if task.is_null() || file.is_null() {
        return None;
    }
    // SAFETY: `file` is a typed `struct file *`.
    let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) };
    if socket.is_null() {
        return None;
    }
    // SAFETY: typed by the helper; the verifier types the member.
    let pointer: *const c_void =
        unsafe { core::ptr::read_volatile(socket.cast::<u8>().add(offset!(socket_sk)).cast()) };
    if pointer.is_null() {
        return None;
    }
    // SAFETY: typed as `struct sock *`, and not null.
    let sock = unsafe { Sock::watched(pointer) }?;
    // SAFETY: `task` is a typed `struct task_struct *`.
    let tgid: u32 = unsafe { core::ptr::read_volatile(task.add(offset!(task_tgid)).cast()) };
    let phase = live_phase(sock)?;
    let netns = sock.netns();
    let asked = TOTALS.get_ptr(Source { netns, tgid }).is_some();
    if !asked {
        TOTALS.get_ptr(Source::everyone(netns))?;
    }
    let connection = match STRANGERS.get_ptr(sock.key()) {
        // SAFETY: a live map value; entries are only written whole.
        Some(stranger) => unsafe { *stranger },
        None => Connection {
            born_ns: now(),
            attempted_ns: 0,
            established_ns: 0,
            tgid,
            netns,
            peer: sock.peer(),
            peer_port: port(),
            soft_errno: 0,
            retransmits: sock.tcp()?.total_retransmits(),
            phase: phase as u8,
            _pad: [0; 7],
        },
    };
    if !asked {
        let _ = STRANGERS.insert(sock.key(), &connection, u64::from(BPF_NOEXIST));
        return Some(());
    }
    match CONNECTIONS.insert(sock.key(), &connection, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            let _ = STRANGERS.remove(sock.key());
            // Its end may have passed between the look and the insertion, and nobody else would
            // take it out before the socket is destroyed.
            if live_phase(sock).is_none() {
                let _ = CONNECTIONS.remove(sock.key());
            }
        }
        Err(EEXIST) => {}
        Err(_) => lose(Loss::ConnectionsFull),
    }
    Some(())
}

#[inline(always)]
fn live_phase(sock: Sock) -> Option<Phase> {
    match sock.state() {
        TCP_SYN_SENT => Some(Phase::Connecting),
        TCP_ESTABLISHED => Some(Phase::Established),
        _ => None,
    }
}

/// Known already, from its own events.
const EEXIST: i32 = -17;
