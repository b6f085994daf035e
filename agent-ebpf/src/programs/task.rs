//! The current task.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task};

use crate::{constants::offset, memory::read_kernel};

/// The current thread, as the key of its connect() call.
#[inline(always)]
pub(crate) fn thread() -> u64 {
    bpf_get_current_pid_tgid()
}

/// The process of a [`thread`], in the initial pid namespace.
#[inline(always)]
pub(crate) const fn process(thread: u64) -> u32 {
    (thread >> 32) as u32
}

/// Inode number of the current task's network namespace.
#[inline(always)]
pub(crate) fn netns() -> Option<u32> {
    let nsproxy: *const u8 = read_kernel(current().wrapping_add(offset!(task_nsproxy)))?;
    let net: *const u8 = read_kernel(nsproxy.wrapping_add(offset!(nsproxy_net_ns)))?;
    read_kernel(net.wrapping_add(offset!(net_inum)))
}

/// Whether the current task is ending: `PF_EXITING` of `include/linux/sched.h`, set before its files
/// are closed.
#[inline(always)]
pub(crate) fn is_exiting() -> bool {
    const PF_EXITING: u32 = 4;
    let flags: Option<u32> = read_kernel(current().wrapping_add(offset!(task_flags)));
    flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

#[inline(always)]
fn current() -> *const u8 {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    task as *const u8
}
