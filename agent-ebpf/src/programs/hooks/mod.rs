//! One file per hook, named for it, and three shared ones: `connect_failure`, `lookup`,
//! `tracepoint`.
//!
//! Above each entry function: the kernel's prototype, its source, the kernels that have it, why
//! this hook, and what holds in it. Sources are those of Linux 6.12. Userspace's table of hooks
//! says what each is for, and what is lost without it.

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
