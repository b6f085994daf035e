//! The baseline of the benchmarks: empty programs on the same hooks.
// On the host this is compiled only for clippy, as an ordinary program that does nothing.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use aya_ebpf::{
    macros::{btf_tracepoint, fexit, tracepoint},
    programs::{BtfTracePointContext, FExitContext, TracePointContext},
};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn empty_set_state(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "tcp_destroy_sock")]
fn empty_destroy(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[fexit(function = "inet_stream_connect")]
fn empty_stream(_ctx: FExitContext) -> i32 {
    0
}

#[tracepoint(category = "syscalls", name = "sys_enter_connect")]
fn empty_enter(_ctx: TracePointContext) -> u32 {
    0
}

#[tracepoint(category = "syscalls", name = "sys_exit_connect")]
fn empty_exit(_ctx: TracePointContext) -> u32 {
    0
}

/// Never reached, by the verifier: no program may panic.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

// Like that of `statlink-programs`.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
