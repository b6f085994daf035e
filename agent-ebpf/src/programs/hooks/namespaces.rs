//! The network namespaces of the host and of processes with a watched name, for a userspace that
//! may not read them in `/proc`, which takes CAP_SYS_PTRACE.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_write;
use statlink_ebpf::{COMM_LEN, KTHREADD, Process};

use crate::{
    constants::{is_watched, offset},
    memory::{load, size},
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

/// `int bpf_iter_task(struct bpf_iter_meta *meta, struct task_struct *task)`
///
/// Source: `DEFINE_BPF_ITER_FUNC(task, …)` in `kernel/bpf/task_iter.c`, since 5.8.
///
/// Why so: it needs no further capability.
///
/// What holds: it runs in the reader's context, for every task of the reader's pid namespace,
/// threads included. `task` is null at the end. The reader reads what it writes.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn namespaces(ctx: *const Task) -> i32 {
    try_namespaces(ctx);
    0
}

#[inline(always)]
fn try_namespaces(ctx: *const Task) -> Option<()> {
    // SAFETY: the iterator's context, as laid out above.
    let task = unsafe { (*ctx).task };
    // SAFETY: as above.
    let meta = unsafe { (*ctx).meta };
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
    // SAFETY: as above; the verifier types what a typed member points to, and a null pointer reads
    // as zero.
    let nsproxy: *const u8 = unsafe { load(task, offset!(task_nsproxy)) };
    // SAFETY: as above.
    let net: *const u8 = unsafe { load(nsproxy, offset!(nsproxy_net_ns)) };
    // SAFETY: as above.
    let netns: u32 = unsafe { load(net, offset!(net_inum)) };
    let process = Process { tgid, netns };
    // SAFETY: the context's own file.
    let seq = unsafe { (*meta).seq };
    // SAFETY: as above, and a buffer of the size given.
    unsafe { bpf_seq_write(seq.cast(), (&raw const process).cast(), size::<Process>()) };
    Some(())
}

#[inline(always)]
fn comm(task: *const u8) -> [u8; COMM_LEN] {
    let at = offset!(task_comm);
    let half = |index: usize| {
        // SAFETY: `task` is typed, and `comm` is 16 bytes long.
        unsafe { load::<u64>(task, at + 8 * index) }
    };
    // SAFETY: same size, and any bytes are valid for both.
    unsafe { core::mem::transmute::<[u64; 2], [u8; COMM_LEN]>([half(0), half(1)]) }
}
