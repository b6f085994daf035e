//! `refusing SYSCALL ERRNO PROGRAM ARGUMENTS…`: runs a program under a seccomp filter that makes
//! one system call fail, like a container runtime's profile.

use std::{env, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result, bail};

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    let mut next = || arguments.next().context("SYSCALL ERRNO PROGRAM ARGUMENTS…");
    let call = match next()?.to_str() {
        Some("bpf") => libc::SYS_bpf,
        Some("perf_event_open") => libc::SYS_perf_event_open,
        Some("mount") => libc::SYS_mount,
        other => bail!("{other:?}: bpf, perf_event_open or mount"),
    };
    let errno = next()?.to_string_lossy().parse()?;
    let program = next()?;
    refuse(call, errno)?;
    Err(Command::new(program).args(arguments).exec()).context("exec")
}

/// A filter that answers `call` with `errno` and allows everything else. Programs that this process
/// executes inherit it.
fn refuse(call: libc::c_long, errno: u16) -> Result<()> {
    let statement = |code: u32, k: u32| -> Result<_> {
        Ok(libc::sock_filter {
            code: u16::try_from(code)?,
            jt: 0,
            jf: 0,
            k,
        })
    };
    let number_is = libc::sock_filter {
        jf: 1,
        ..statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            u32::try_from(call)?,
        )?
    };
    // `struct seccomp_data` begins with the call's number.
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)?,
        number_is,
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | u32::from(errno),
        )?,
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW)?,
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len())?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the filter outlives the call, which copies it. Root needs no `no_new_privs` for it.
    let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    if answer != 0 {
        return Err(std::io::Error::last_os_error()).context("set a seccomp filter");
    }
    Ok(())
}
