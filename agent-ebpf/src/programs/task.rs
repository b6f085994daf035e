//! The current task.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task};
use statlink_ebpf::COMM_LEN;

use crate::{
    constants::offset,
    memory::read_kernel,
    sock::{self, S_IFMT, S_IFSOCK},
};

/// The current thread, as the key of its connect() call.
#[inline(always)]
pub(crate) fn thread() -> u64 {
    bpf_get_current_pid_tgid()
}

/// The process of a [`thread`], in the initial pid namespace.
#[inline(always)]
pub(crate) const fn process(thread: u64) -> u32 {
    (thread >> 32) as u32
}

/// Inode number of the current task's network namespace.
#[inline(always)]
pub(crate) fn netns() -> Option<u32> {
    let nsproxy: *const u8 = read_kernel(current().wrapping_add(offset!(task_nsproxy)))?;
    let net: *const u8 = read_kernel(nsproxy.wrapping_add(offset!(nsproxy_net_ns)))?;
    read_kernel(net.wrapping_add(offset!(net_inum)))
}

/// Whether the current task is ending: `PF_EXITING` of `include/linux/sched.h`, set before its files
/// are closed.
#[inline(always)]
pub(crate) fn is_exiting() -> bool {
    const PF_EXITING: u32 = 4;
    let flags: Option<u32> = read_kernel(current().wrapping_add(offset!(task_flags)));
    flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

/// The current thread's name. Threads inherit their process's name, unless they are renamed.
#[inline(always)]
pub(crate) fn comm() -> Option<[u8; COMM_LEN]> {
    bpf_get_current_comm().ok()
}

/// Whether the current process's file descriptor `fd` is a TCP socket, or an MPTCP socket, which
/// sends over TCP.
#[inline(always)]
pub(crate) fn is_tcp_socket(fd: u32) -> bool {
    socket_protocol(fd).is_some_and(sock::is_tcp)
}

#[inline(always)]
fn socket_protocol(fd: u32) -> Option<u16> {
    let files: *const u8 = read_kernel(current().wrapping_add(offset!(task_files)))?;
    let table: *const u8 = read_kernel(files.wrapping_add(offset!(files_fdt)))?;
    let descriptors: u32 = read_kernel(table.wrapping_add(offset!(fdtable_max_fds)))?;
    if fd >= descriptors {
        return None;
    }
    let open: *const u8 = read_kernel(table.wrapping_add(offset!(fdtable_fd)))?;
    let file: *const u8 = read_kernel(open.wrapping_add(8 * fd as usize))?;
    let inode: *const u8 = read_kernel(file.wrapping_add(offset!(file_inode)))?;
    let mode: u16 = read_kernel(inode.wrapping_add(offset!(inode_mode)))?;
    if mode & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket: *const u8 = read_kernel(file.wrapping_add(offset!(file_private_data)))?;
    let sock: *const u8 = read_kernel(socket.wrapping_add(offset!(socket_sk)))?;
    read_kernel(sock.wrapping_add(offset!(sock_protocol)))
}

#[inline(always)]
fn current() -> *const u8 {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    task as *const u8
}
