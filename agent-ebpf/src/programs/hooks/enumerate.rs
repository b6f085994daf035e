//! Lists connections that are older than the agent, of tracked sources and of their neighbours.

use core::ffi::c_void;

use statlink_ebpf::{Connection, Source, decide::open_phase};

use crate::{
    account::Account,
    connections::{EEXIST, discard, insert, kept},
    constants::{offset, port},
    memory::load,
    records::now,
    sock::{Found, sock_of},
};

/// `struct bpf_iter__task_file { meta; task; u32 fd; file }`, each in 8 bytes.
#[repr(C)]
struct TaskFile {
    meta: *const c_void,
    task: *const u8,
    fd: u32,
    file: *const c_void,
}

/// `int bpf_iter_task_file(struct bpf_iter_meta *meta, struct task_struct *task, u32 fd,
/// struct file *file)`
///
/// Source: `DEFINE_BPF_ITER_FUNC(task_file, …)` in `kernel/bpf/task_iter.c`, since 5.8.
///
/// Why so: it visits every open file of every task, in any network namespace, without entering one;
/// and the task is the socket's owner, which `iter/tcp` does not know. The socket is found in the
/// same way as the kernel's own `sock_from_file()` does, because `bpf_sock_from_file()` exists only
/// since 5.11.
///
/// What holds: it runs in the reader's context; `task`, not the current one, owns the file. Both
/// are null at the end. The socket is not locked: its own events may come at the same time.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn enumerate(ctx: *const TaskFile) -> i32 {
    try_enumerate(ctx);
    0
}

#[inline(always)]
fn try_enumerate(ctx: *const TaskFile) -> Option<()> {
    // SAFETY: the iterator's context, as laid out above.
    let task = unsafe { (*ctx).task };
    // SAFETY: as above.
    let file = unsafe { (*ctx).file };
    if task.is_null() || file.is_null() {
        return None;
    }
    // SAFETY: `file` is a typed `struct file *`, and not null.
    let found = Found::behind(unsafe { sock_of(file.cast()) }?)?;
    let phase = open_phase(found.state)?;
    // SAFETY: `task` is a typed `struct task_struct *`.
    let tgid: u32 = unsafe { load(task, offset!(task_tgid)) };
    let source = Source {
        netns: found.netns,
        tgid,
    };
    let account = Account::existing(source)?;
    // Known already, from its own events or from another of its owner's descriptors.
    if !account.recorded || kept(found.key).is_some() {
        return None;
    }
    let place = account.take_connection()?;
    let connection = Connection {
        born_ns: now(),
        attempted_ns: 0,
        established_ns: 0,
        tgid,
        netns: found.netns,
        peer: found.peer,
        peer_port: port(),
        soft_errno: 0,
        retransmits: found.retransmits,
        phase: phase as u8,
        place: place as u8,
        reported_errno: 0,
        in_unkept_call: 0,
        _pad: [0; 3],
    };
    match insert(found.key, &connection) {
        // The end may have passed between the look and the insertion, and nobody else would remove
        // the entry before the socket is destroyed.
        Ok(()) if !found.is_open() => discard(found.key),
        Ok(()) => {}
        Err(error) => {
            account.release_connection(place);
            if error != EEXIST {
                account.count_refused();
            }
        }
    }
    Some(())
}
