//! Who refused a call, and what helps: judged by what this process holds and what is around it, not
//! by the errno alone.
//!
//! The kernel answers EPERM for a dozen reasons. To advise a capability that is held already sends
//! people astray, so [`Surroundings`] are looked at first.

mod call;
mod surroundings;

use std::{borrow::Cow, io};

use rustix::thread::CapabilitySet;

pub use self::{
    call::Call,
    surroundings::{CONFIDENTIALITY, Confinement, Surroundings},
};
use super::version::KernelVersion;

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Capabilities that the call takes are not held.
    Capability(CapabilitySet),
    /// A seccomp filter answers in the kernel's place.
    Seccomp,
    /// `kernel.perf_event_paranoid`, which in some distributions knows values above 2.
    PerfEventParanoid(i32),
    /// RLIMIT_MEMLOCK, which kernels before 5.11 charge maps to; in bytes.
    MemoryLock(u64),
    /// Memory ran out.
    Memory,
    /// The kernel is locked down for confidentiality.
    Lockdown,
    /// A policy that confines this process.
    Confined(Confinement),
    /// The kernel is built without this.
    Config(&'static str),
    /// The kernel is too old, or lacks it for another reason.
    Kernel {
        /// The first kernel that has it.
        since: KernelVersion,
    },
    /// It is refused, and nothing that can be seen from here explains it.
    Unseen {
        /// The kernel's security modules, where they can be seen.
        modules: Option<String>,
    },
}

/// Why `call` failed with `errno`; `since` is the first kernel that has what was asked for.
///
/// Capabilities go first, because a runtime's seccomp filter follows them: without CAP_BPF its
/// default profile refuses bpf(2), too.
pub fn judge(call: Call, errno: Option<i32>, since: KernelVersion, around: &Surroundings) -> Cause {
    let kind = errno.map(|errno| io::Error::from_raw_os_error(errno).kind());
    match kind {
        Some(io::ErrorKind::PermissionDenied) => refused(call, around),
        Some(io::ErrorKind::OutOfMemory) => Cause::Memory,
        // A filter may answer with any errno.
        _ if around.filtered => Cause::Seccomp,
        // Locked down for confidentiality, the kernel withholds the helper that reads its memory
        // (`bpf_tracing_func_proto`, kernel/trace/bpf_trace.c): the verifier says EINVAL.
        _ if call == Call::Bpf && around.is_confidential() => Cause::Lockdown,
        Some(io::ErrorKind::NotFound) if call == Call::Tracefs => {
            Cause::Config("CONFIG_FTRACE_SYSCALLS")
        }
        _ => Cause::Kernel { since },
    }
}

fn refused(call: Call, around: &Surroundings) -> Cause {
    let missing = around.missing_for(call);
    if !missing.is_empty() {
        return Cause::Capability(missing);
    }
    if around.filtered {
        return Cause::Seccomp;
    }
    if call == Call::PerfEventOpen
        && let Some(value) = around.perf_event_paranoid
        && value > UPSTREAM_PARANOID
        && !around.held.contains(CapabilitySet::SYS_ADMIN)
    {
        return Cause::PerfEventParanoid(value);
    }
    if call == Call::Bpf
        && let Some(limit) = around.memory_lock
        && around
            .release
            .is_some_and(|release| release < CHARGES_CGROUPS)
        && limit < MAPS_BYTES
    {
        return Cause::MemoryLock(limit);
    }
    if call != Call::Mount && around.is_confidential() {
        return Cause::Lockdown;
    }
    match &around.confined {
        Some(confinement) => Cause::Confined(confinement.clone()),
        None => Cause::Unseen {
            modules: around.modules.clone(),
        },
    }
}

impl Cause {
    /// Its name in the JSON of `check`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Capability(_) => "capability",
            Self::Seccomp => "seccomp",
            Self::PerfEventParanoid(_) => "perf_event_paranoid",
            Self::MemoryLock(_) => "memory_lock",
            Self::Memory => "memory",
            Self::Lockdown => "lockdown",
            Self::Confined(Confinement::AppArmor(_)) => "apparmor",
            Self::Confined(Confinement::SeLinux(_)) => "selinux",
            Self::Config(_) => "kernel_config",
            Self::Kernel { .. } => "kernel",
            Self::Unseen { .. } => "unseen",
        }
    }

    /// What helps, where this kept `call` from working.
    pub fn remedy(&self, call: Call) -> Cow<'static, str> {
        let remedy: Cow<'static, str> = match self {
            Self::Capability(missing) => format!(
                "add {} to the container's capabilities, or run privileged",
                names(*missing)
            )
            .into(),
            Self::Seccomp => format!(
                "the seccomp filter of this container refuses {call}: set seccompProfile to a \
                 profile that admits it; the default of older container runtimes admits it with \
                 CAP_SYS_ADMIN only"
            )
            .into(),
            Self::PerfEventParanoid(value) => format!(
                "kernel.perf_event_paranoid is {value} on this node, which refuses {call} to all \
                 without CAP_SYS_ADMIN: set it to 2, or run privileged"
            )
            .into(),
            Self::MemoryLock(limit) => format!(
                "kernels before 5.11 charge maps to RLIMIT_MEMLOCK, which is {} KiB here: give the \
                 container runtime LimitMEMLOCK=infinity, or add CAP_SYS_RESOURCE",
                limit / 1024
            )
            .into(),
            Self::Memory => "needs about 1 MB of kernel memory: raise the memory limit".into(),
            Self::Lockdown => format!(
                "the kernel is locked down for confidentiality, which refuses {call}: boot it with \
                 lockdown=integrity"
            )
            .into(),
            Self::Confined(Confinement::AppArmor(profile)) => format!(
                "AppArmor confines this process by the profile {profile}, which is likely to refuse \
                 {call}: set appArmorProfile to Unconfined, or to one that admits it"
            )
            .into(),
            Self::Confined(Confinement::SeLinux(context)) => format!(
                "SELinux runs this process as {context}, which is likely to be refused {call}: set \
                 seLinuxOptions.type to spc_t"
            )
            .into(),
            Self::Config(option) => format!("needs a kernel built with {option}").into(),
            Self::Kernel { since } if *since > KernelVersion::OLDEST => {
                format!("needs Linux {since} or later").into()
            }
            Self::Kernel { .. } => {
                format!("needs Linux {} or later with BPF and BTF", KernelVersion::OLDEST).into()
            }
            Self::Unseen { modules } => {
                let modules = modules.as_deref().unwrap_or("AppArmor, SELinux, bpf, lockdown");
                format!(
                    "what {call} takes is held, and nothing that can be seen from here refuses it: \
                     look in the kernel's log of this node for a denial by a security module \
                     ({modules})"
                )
                .into()
            }
        };
        match call {
            Call::Mount => format!("{HOST_PATH}; or {remedy}").into(),
            Call::Bpf | Call::PerfEventOpen | Call::Tracefs => remedy,
        }
    }
}

/// The names of capabilities as a manifest's reader knows them.
fn names(set: CapabilitySet) -> String {
    let names: Vec<_> = set
        .iter_names()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect();
    names.join(" and ")
}

/// Helps whatever refuses the mount.
const HOST_PATH: &str = "mount tracefs on the node at /sys/kernel/tracing, and give the pod that as a \
     read-only hostPath";
/// The highest value that the kernel itself knows (Documentation/admin-guide/sysctl/kernel.rst).
/// Debian's and Ubuntu's patches refuse everything above it without CAP_SYS_ADMIN.
const UPSTREAM_PARANOID: i32 = 2;
/// The first kernel that charges maps to the control group's memory (commit d5299b67dd59).
const CHARGES_CGROUPS: KernelVersion = KernelVersion::new(5, 11);
/// All maps and programs together take less (0.76 MB measured).
const MAPS_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests;
