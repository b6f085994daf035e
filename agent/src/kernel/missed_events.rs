//! Events that a program missed: the kernel does not run a program while the same one runs on the
//! same CPU already.

use std::{
    fs,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// Since it was loaded: `recursion_misses` of `bpf_prog_show_fdinfo()`, `kernel/bpf/syscall.c`, since
/// 5.12; `None` on kernels before.
pub(super) fn of(program: BorrowedFd<'_>) -> Option<u64> {
    let number = program.as_raw_fd();
    parse(&fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?)
}

fn parse(fdinfo: &str) -> Option<u64> {
    let mut lines = fdinfo.lines();
    let value = lines.find_map(|line| line.strip_prefix("recursion_misses:"))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn without_a_count_of_the_kernel_there_is_none() {
        let since_5_12 = "pos:\t0\nprog_type:\t26\nrun_cnt:\t9\nrecursion_misses:\t3\n";
        assert_eq!(parse(since_5_12), Some(3));
        assert_eq!(parse("pos:\t0\nprog_type:\t26\nrun_cnt:\t9\n"), None);
    }
}
