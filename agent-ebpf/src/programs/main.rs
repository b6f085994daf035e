//! statlink's kernel half: turns events on the watched port into records and totals.
//!
//! One file per hook under `hooks`; each entry function is an adapter around a `try_*`. Shared by
//! them, from the bottom up:
//!
//! - [`memory`]: reading the kernel's memory and a process's;
//! - [`constants`]: what userspace sets before loading;
//! - [`sock`] and [`task`]: the kernel's sockets and tasks;
//! - [`maps`]: all state, and the count of what is lost;
//! - [`candidates`] and [`account`]: which processes are watched, with counts and quotas;
//! - [`records`], [`connections`], [`calls`]: the rings, the open connections and the connect() calls,
//!   used in the one order that loses nothing.
//!
//! The programs' decisions are in the library, [`statlink_ebpf::decide`], with their tests. This
//! package's README says which program may run when, and what each map is for.
// On the host this is compiled only for clippy, as an ordinary program that does nothing.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// For `atomic`; the build lets this crate use it on a stable compiler.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod account;
mod atomic;
mod calls;
mod candidates;
mod connections;
mod constants;
mod hooks;
mod maps;
mod memory;
mod records;
mod sock;
mod task;

/// Never reached, by the verifier: no program may panic.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

// Helpers such as bpf_skc_to_tcp_sock() are only for programs under a licence that is compatible
// with the GPL (`gpl_only` in the kernel's helper prototypes). This string is one of those that the
// kernel accepts (`license_is_gpl_compatible()`, `include/linux/license.h`); the package's licence
// offers both, and Apache-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
