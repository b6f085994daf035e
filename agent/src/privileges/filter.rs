//! A seccomp filter for the threads that talk to the network: it refuses the system calls with
//! which a process changes the node or looks into other processes. None of those threads makes
//! them.
//!
//! It is a second line behind the capabilities, and no boundary: all threads share one memory.

use std::io;

/// Refuses these system calls with EPERM to the calling thread and the threads it starts. It cannot be undone.
///
/// # Errors
///
/// If the kernel has no seccomp filters, or `no_new_privs` is not set and CAP_SYS_ADMIN not held.
pub(super) fn install(refused: &[libc::c_long]) -> io::Result<()> {
    let mut program = program(refused);
    let filter = libc::sock_fprog {
        // The program is only a little longer than the list of calls.
        len: u16::try_from(program.len()).unwrap_or(u16::MAX),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which outlives the call and is as long as it says.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            // Otherwise older kernels switch off speculation for the thread, which slows it down.
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const filter,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads the architecture, then the number, and compares it with each refused one.
fn program(refused: &[libc::c_long]) -> Vec<libc::sock_filter> {
    let statement = |code, k| instruction(code, 0, 0, k);
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let answer = libc::BPF_RET | libc::BPF_K;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let mut program = vec![
        statement(load, ARCHITECTURE_AT),
        // The system call numbers of another architecture (i386 beside x86-64) mean other calls, so
        // all of them are refused.
        instruction(EQUAL, 1, 0, ARCHITECTURE),
        statement(answer, refuse),
        statement(load, NUMBER_AT),
        // x32, whose numbers begin here; other architectures have no numbers this high.
        instruction(AT_LEAST, 0, 1, X32),
        statement(answer, refuse),
    ];
    for number in refused {
        let number = u32::try_from(*number).unwrap_or(u32::MAX);
        program.extend([instruction(EQUAL, 0, 1, number), statement(answer, refuse)]);
    }
    program.push(statement(answer, libc::SECCOMP_RET_ALLOW));
    program
}

/// `code` is a class, a size and a mode, all of which are in the lower byte.
fn instruction(code: u32, if_true: u8, if_false: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt: if_true,
        jf: if_false,
        k,
    }
}

const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;

/// Offsets in `struct seccomp_data`, `include/uapi/linux/seccomp.h`.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
/// `__X32_SYSCALL_BIT`, `arch/x86/include/uapi/asm/unistd.h`.
const X32: u32 = 0x4000_0000;
/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_AARCH64`, `include/uapi/linux/audit.h`: the machine of ELF, 64
/// bits, little endian.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 62 | 0x8000_0000 | 0x4000_0000;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 183 | 0x8000_0000 | 0x4000_0000;

/// System calls that open a file by its path.
pub(super) const OPEN: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
];

/// System calls that threads with network access never need. execve is not refused: the Kubernetes
/// client may ask a program for its token.
pub(super) const NEVER_NEEDED: &[libc::c_long] = &[
    // The kernel's programs, counters and modules.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    // Files by other means than their path, and devices.
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    // The node as a whole.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Keys.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        thread,
    };

    use rustix::thread::{UnshareFlags, set_no_new_privs, unshare_unsafe};

    use super::*;

    #[test]
    fn a_filtered_thread_and_those_it_starts_are_refused_what_they_never_need() {
        let refused = || {
            let answer =
                // SAFETY: the kernel reads nothing for a command that does not exist.
                unsafe { libc::syscall(libc::SYS_bpf, libc::c_long::from(i32::MAX), 0_usize, 0_usize) };
            let bpf = (answer, io::Error::last_os_error().raw_os_error());
            // SAFETY: only the thread's own view of mounts would change, and nobody uses it.
            let unshare = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
            (bpf, unshare)
        };
        let (own, of_child) = thread::spawn(move || {
            set_no_new_privs(true).unwrap();
            install(NEVER_NEEDED).unwrap();
            (refused(), thread::spawn(refused).join().unwrap())
        })
        .join()
        .unwrap();
        let expected = ((-1, Some(libc::EPERM)), Err(rustix::io::Errno::PERM));
        assert_eq!(own, expected);
        assert_eq!(of_child, expected);
    }

    #[test]
    fn what_exports_and_watches_do_goes_on() {
        thread::spawn(|| {
            set_no_new_privs(true).unwrap();
            install(NEVER_NEEDED).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(std::fs::read("/proc/self/stat").is_ok());
            assert!(
                std::process::Command::new("true")
                    .status()
                    .unwrap()
                    .success()
            );
        })
        .join()
        .unwrap();
    }

    #[test]
    fn every_call_is_compared_with_a_number_of_its_own() {
        let mut numbers = NEVER_NEEDED.to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), NEVER_NEEDED.len());
        assert_eq!(program(NEVER_NEEDED).len(), 7 + 2 * NEVER_NEEDED.len());
    }
}
