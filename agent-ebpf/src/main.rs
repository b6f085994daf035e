//! statlink's kernel half: what happens on the watched port, told in records and totals.
//!
//! One file per hook under `hooks`; each entry function is an adapter around a `try_*`. The
//! shared parts are [`maps`] (all state), [`sock`] (reading the kernel's structures) and
//! [`account`] (totals, ring and connection map, in the one order that loses nothing). What a
//! record means for a link is not decided here.
#![no_std]
#![no_main]
// For `atomic`; the build lets this crate use it on a stable compiler.
#![feature(asm_experimental_arch)]

mod account;
mod atomic;
mod hooks;
mod maps;
mod sock;

/// The verifier never lets this be reached: no program may panic.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// bpf_skc_to_tcp_sock and others are for GPL-compatible programs only (gpl_only in the kernel's
// helper prototypes); Apache-2.0 sources may be declared dual to the kernel.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
