//! The network namespaces of the processes of a watched name, and the host's, for who may not
//! read them in `/proc`: that takes CAP_SYS_PTRACE.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_write;
use statlink_ebpf::{COMM_LEN, KTHREADD, Process};

use crate::{
    maps::{is_watched, offset},
    sock::load,
};

/// `struct bpf_iter__task { meta; task }`, each in 8 bytes.
#[repr(C)]
struct Task {
    meta: *const Meta,
    task: *const u8,
}

/// `struct bpf_iter_meta { seq; session_id; seq_num }`.
#[repr(C)]
struct Meta {
    seq: *mut c_void,
}

/// `iter/task`: every task of the reader's pid namespace, threads included.
///
/// `kernel/bpf/task_iter.c`, since 5.8. What is written is what the reader reads. `task` is null
/// at the end.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn namespaces(ctx: *const Task) -> i32 {
    try_namespaces(ctx);
    0
}

#[inline(always)]
fn try_namespaces(ctx: *const Task) -> Option<()> {
    // SAFETY: the iterator's context, as laid out above.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    if task.is_null() {
        return None;
    }
    // SAFETY: `task` is a typed `struct task_struct *`.
    let tgid: u32 = unsafe { load(task, offset!(task_tgid)) };
    // SAFETY: as above.
    let pid: u32 = unsafe { load(task, offset!(task_pid)) };
    if pid != tgid || (pid != KTHREADD && !is_watched(comm(task))) {
        return None;
    }
    // SAFETY: typed, and the verifier types what a typed member points to; what has gone to null
    // reads as zero.
    let netns: u32 = unsafe {
        let nsproxy: *const u8 = load(task, offset!(task_nsproxy));
        let net: *const u8 = load(nsproxy, offset!(nsproxy_net_ns));
        load(net, offset!(net_inum))
    };
    let process = Process { tgid, netns };
    // SAFETY: the context's own file, and a buffer of the size told.
    unsafe {
        bpf_seq_write(
            (*meta).seq.cast(),
            (&raw const process).cast(),
            size_of::<Process>() as u32,
        )
    };
    Some(())
}

#[inline(always)]
fn comm(task: *const u8) -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    for at in (0..COMM_LEN).step_by(8) {
        // SAFETY: `task` is typed, and `comm` is 16 bytes long.
        let half: u64 = unsafe { load(task, offset!(task_comm) + at) };
        comm[at..at + 8].copy_from_slice(&half.to_ne_bytes());
    }
    comm
}
