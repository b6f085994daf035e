//! statlink's kernel half: what happens on the watched port, told in records and totals.
//!
//! One file per hook under `hooks`; each entry function is an adapter around a `try_*`. The
//! shared parts are [`maps`] (all state), [`sock`] (reading the kernel's structures) and
//! [`account`] (totals, ring and connection map, in the one order that loses nothing). What a
//! record means for a link is not decided here.
// On the host this is compiled for clippy alone, as an ordinary program that does nothing.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// For `atomic`; the build lets this crate use it on a stable compiler.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod account;
mod atomic;
mod hooks;
mod maps;
mod sock;

/// The verifier never lets this be reached: no program may panic.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

// Helpers such as bpf_skc_to_tcp_sock() are for programs under a licence that is compatible with
// the GPL only (`gpl_only` in the kernel's helper prototypes). This string is one of those that the
// kernel accepts (`license_is_gpl_compatible()`, `include/linux/license.h`); the package's licence
// offers both, and Apache-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
