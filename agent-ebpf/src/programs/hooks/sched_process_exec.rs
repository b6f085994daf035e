//! Executions: userspace learns of a new activator before it dials.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use statlink_ebpf::{LossReason, Source};

use crate::{constants::is_watched, maps::count_loss, records::put_executed, task};

/// `void sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
///
/// Source: `include/trace/events/sched.h`, called from `exec_binprm()` in `fs/exec.c`. The tracepoint
/// is there since 3.4, typed by BTF since 5.5.
///
/// Why here: otherwise userspace would find a new activator by scanning `/proc` once a second,
/// after its first dials.
///
/// What holds: the new image, and so the new `comm`, is in place; the current task is `p`.
#[btf_tracepoint(function = "sched_process_exec")]
pub(crate) fn sched_process_exec(_ctx: BtfTracePointContext) -> i32 {
    try_exec();
    0
}

#[inline(always)]
fn try_exec() -> Option<()> {
    if is_watched(task::comm()?) {
        // Its network namespace is not settled yet: its runtime may still move it.
        let source = Source {
            netns: 0,
            tgid: task::process(task::thread()),
        };
        if !put_executed(&source) {
            count_loss(LossReason::ExecutionLost);
        }
    }
    Some(())
}
