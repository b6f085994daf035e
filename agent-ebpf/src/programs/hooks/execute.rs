//! Executions: a new activator is heard of before it dials.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use statlink_ebpf::{RecordKind, Source};

use crate::{
    account::{Detail, Wake, nothing_of, now, tell},
    maps::is_watched,
};

/// `void sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
///
/// `include/trace/events/sched.h`, since 3.4; from `exec_binprm()`, when the new image, and so the
/// new `comm`, is in place. The current task is `p`.
#[btf_tracepoint(function = "sched_process_exec")]
pub(crate) fn sched_process_exec(_ctx: BtfTracePointContext) -> i32 {
    if bpf_get_current_comm().is_ok_and(is_watched) {
        let time_ns = now();
        let source = Source {
            netns: 0,
            tgid: (bpf_get_current_pid_tgid() >> 32) as u32,
        };
        tell(
            0,
            &nothing_of(&source),
            &Detail::new(RecordKind::Executed, time_ns),
            Wake::Now,
        );
    }
    0
}
