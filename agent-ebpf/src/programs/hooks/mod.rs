//! One file per hook, named for it; and three with what several share: `connect_failure`, `lookup`,
//! `tracepoint`.
//!
//! Above each entry function: the kernel's prototype, where it is, on which kernels, why this hook,
//! and what holds in it. Sources are those of Linux 6.12. What each is for, and what is lost without it, is told by userspace's table of hooks.

mod connect_failure;
mod enumerate;
mod inet_dgram_connect;
mod inet_sk_error_report;
mod inet_sock_set_state;
mod inet_stream_connect;
mod lookup;
mod namespaces;
mod sample;
mod sched_process_exec;
mod sys_enter_connect;
mod sys_exit_connect;
mod tcp_destroy_sock;
mod tcp_retransmit_skb;
mod tracepoint;
mod track;
