//! What this process holds, and what around it may withhold a call, as far as that can be seen from
//! inside a container.

use std::fs;

use rustix::{
    process::{Resource, getrlimit},
    thread::{CapabilitySet, capabilities},
};

use super::call::Call;
use crate::kernel::version::KernelVersion;

/// What this process holds, and what around it may withhold a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The effective capabilities of this thread.
    pub held: CapabilitySet,
    /// The kernel's version, if `uname -r` begins with one.
    pub release: Option<KernelVersion>,
    /// RLIMIT_MEMLOCK in bytes; `None` without a limit.
    pub memory_lock: Option<u64>,
    /// Whether a seccomp filter answers the refused call in the kernel's place.
    pub filtered: bool,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i32>,
    /// The mode of lockdown; `None` where it cannot be seen.
    pub lockdown: Option<String>,
    /// The kernel's security modules; `None` where they cannot be seen.
    pub modules: Option<String>,
    /// The policy of a security module that confines this process.
    pub confined: Option<Confinement>,
}

/// The policy of a security module that confines a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// An AppArmor profile that is enforced.
    AppArmor(String),
    /// An SELinux context.
    SeLinux(String),
}

impl Surroundings {
    /// Looks around after `call` was refused. What cannot be read is taken to withhold nothing.
    pub fn of(call: Call) -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        let status = read("/proc/thread-self/status").unwrap_or_default();
        Self {
            held: capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective),
            release: KernelVersion::of(&rustix::system::uname().release().to_string_lossy()),
            memory_lock: getrlimit(Resource::Memlock).current,
            filtered: has_filter(&status) && is_filtered(call),
            perf_event_paranoid: read("/proc/sys/kernel/perf_event_paranoid")
                .and_then(|value| value.trim().parse().ok()),
            lockdown: LOCKDOWN
                .iter()
                .find_map(|path| lockdown_file(&read(path)?))
                .or_else(|| lockdown_option(&read("/proc/cmdline")?)),
            modules: MODULES
                .iter()
                .find_map(|path| read(path))
                .map(|modules| modules.trim().replace(',', ", ")),
            confined: read("/proc/thread-self/attr/apparmor/current")
                .and_then(|label| confinement(&label))
                .or_else(|| confinement(&read("/proc/thread-self/attr/current")?)),
        }
    }

    /// The capabilities that `call` takes and that are not held.
    pub fn missing_for(&self, call: Call) -> CapabilitySet {
        let takes = match call {
            Call::Bpf => CapabilitySet::BPF | CapabilitySet::PERFMON,
            Call::PerfEventOpen => CapabilitySet::PERFMON,
            Call::Mount => CapabilitySet::SYS_ADMIN,
            // Its files belong to uid 0.
            Call::Tracefs => CapabilitySet::empty(),
        };
        // It stands in for the others (`bpf_capable()`, `perfmon_capable()`,
        // include/linux/capability.h).
        if self.held.contains(CapabilitySet::SYS_ADMIN) {
            return CapabilitySet::empty();
        }
        takes - self.held
    }

    pub(super) fn is_confidential(&self) -> bool {
        self.lockdown.as_deref() == Some(CONFIDENTIALITY)
    }
}

/// Whether a seccomp filter is in force: mode 2 of `proc_pid_status(5)`.
fn has_filter(status: &str) -> bool {
    let mode = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() == "2")
}

/// Whether a filter answers `call`: it is made with arguments for which every kernel has another
/// answer, before it looks at any right. Only after the call has been refused, so that no filter
/// ends the process for it.
fn is_filtered(call: Call) -> bool {
    let (answer, expected) = match call {
        Call::Bpf => {
            // SAFETY: there is no such command, and no attribute to read.
            let answer = unsafe {
                libc::syscall(
                    libc::SYS_bpf,
                    libc::c_long::from(i32::MAX),
                    std::ptr::null::<u8>(),
                    0_usize,
                )
            };
            // EINVAL for the unknown command (`__sys_bpf`, kernel/bpf/syscall.c): it comes after
            // the check of CAP_BPF, which is held here.
            (answer, libc::EINVAL)
        }
        Call::PerfEventOpen => {
            // SAFETY: flags that are not known are refused before anything is read.
            let answer = unsafe {
                libc::syscall(
                    libc::SYS_perf_event_open,
                    std::ptr::null::<u8>(),
                    0_i32,
                    -1_i32,
                    -1_i32,
                    libc::c_ulong::MAX,
                )
            };
            // `perf_event_open`, kernel/events/core.c.
            (answer, libc::EINVAL)
        }
        Call::Mount => {
            // SAFETY: the address is that of no string: the kernel answers EFAULT.
            let answer = unsafe {
                libc::syscall(libc::SYS_mount, 1_usize, 1_usize, 1_usize, 0_usize, 0_usize)
            };
            // `copy_mount_string`, fs/namespace.c, comes before every check.
            (answer, libc::EFAULT)
        }
        Call::Tracefs => return false,
    };
    answer == -1 && std::io::Error::last_os_error().raw_os_error() != Some(expected)
}

/// `none [integrity] confidentiality`: the mode stands in brackets (`security/lockdown/lockdown.c`).
fn lockdown_file(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (mode, _) = rest.split_once(']')?;
    Some(mode.to_owned())
}

/// The mode that the kernel was booted with. It may have become stricter since.
fn lockdown_option(cmdline: &str) -> Option<String> {
    let options = cmdline.split_ascii_whitespace();
    options
        .filter_map(|option| option.strip_prefix("lockdown="))
        .next_back()
        .map(str::to_owned)
}

/// The label of this process, if it confines: `PROFILE (enforce)` of AppArmor, or a context of
/// SELinux, `user:role:type:level`.
fn confinement(label: &str) -> Option<Confinement> {
    let label = label.trim_end_matches(['\0', '\n']);
    if let Some((profile, mode)) = label.rsplit_once(" (") {
        // `complain` refuses nothing.
        return (mode == "enforce)").then(|| Confinement::AppArmor(profile.to_owned()));
    }
    let kind = label.split(':').nth(2)?;
    let confines = !["spc_t", "unconfined_t", "unconfined_service_t"].contains(&kind);
    confines.then(|| Confinement::SeLinux(label.to_owned()))
}

/// The mode of lockdown in which nobody reads kernel memory.
pub const CONFIDENTIALITY: &str = "confidentiality";
/// securityfs is rarely visible in a container; with CAP_SYS_PTRACE and the host's process ids, that
/// of the host is.
const LOCKDOWN: [&str; 2] = [
    "/sys/kernel/security/lockdown",
    "/proc/1/root/sys/kernel/security/lockdown",
];
const MODULES: [&str; 2] = [
    "/sys/kernel/security/lsm",
    "/proc/1/root/sys/kernel/security/lsm",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_mode_two() {
        assert!(has_filter(
            "Name:\tstatlink\nSeccomp:\t2\nSeccomp_filters:\t1\n"
        ));
        assert!(!has_filter(
            "Name:\tstatlink\nSeccomp:\t0\nSeccomp_filters:\t0\n"
        ));
        assert!(!has_filter("Name:\tstatlink\n"));
    }

    #[test]
    fn without_a_filter_the_kernel_answers_itself() {
        // This test's own process has none.
        for call in [Call::Bpf, Call::PerfEventOpen, Call::Mount] {
            if capabilities(None)
                .unwrap()
                .effective
                .contains(CapabilitySet::BPF)
            {
                assert!(!is_filtered(call), "{call}");
            }
        }
    }

    #[test]
    fn lockdown_is_read_from_securityfs_or_the_command_line() {
        let file = lockdown_file("none integrity [confidentiality]\n");
        assert_eq!(file.as_deref(), Some("confidentiality"));
        assert_eq!(
            lockdown_file("[none] integrity confidentiality\n").as_deref(),
            Some("none")
        );
        assert_eq!(lockdown_file(""), None);
        let booted = lockdown_option("quiet lockdown=none lockdown=integrity ro\n");
        assert_eq!(booted.as_deref(), Some("integrity"));
        assert_eq!(lockdown_option("quiet ro\n"), None);
    }

    #[test]
    fn only_a_label_that_confines_counts() {
        let apparmor = |name: &str| Some(Confinement::AppArmor(name.to_owned()));
        let selinux = |context: &str| Some(Confinement::SeLinux(context.to_owned()));
        for (label, expected) in [
            (
                "cri-containerd.apparmor.d (enforce)\n",
                apparmor("cri-containerd.apparmor.d"),
            ),
            ("docker-default (enforce)", apparmor("docker-default")),
            ("docker-default (complain)\n", None),
            ("unconfined\n", None),
            (
                "system_u:system_r:container_t:s0:c1,c2\0",
                selinux("system_u:system_r:container_t:s0:c1,c2"),
            ),
            ("system_u:system_r:spc_t:s0\0", None),
            ("", None),
        ] {
            assert_eq!(confinement(label), expected, "{label:?}");
        }
    }
}
