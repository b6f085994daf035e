//! What is named for each refusal.

use super::*;

const OLDEST: KernelVersion = KernelVersion::OLDEST;
const NEW: KernelVersion = KernelVersion::new(6, 12);

/// A container with the two capabilities that the restricted profile has.
fn restricted() -> Surroundings {
    Surroundings {
        held: CapabilitySet::BPF | CapabilitySet::PERFMON,
        release: Some(NEW),
        memory_lock: Some(64 * 1024),
        filtered: false,
        perf_event_paranoid: Some(2),
        lockdown: Some("none".to_owned()),
        modules: None,
        confined: None,
    }
}

#[test]
fn what_withholds_is_named() {
    let apparmor = Confinement::AppArmor("cri-containerd.apparmor.d".to_owned());
    let selinux = Confinement::SeLinux("system_u:system_r:container_t:s0".to_owned());
    let change = |change: &dyn Fn(&mut Surroundings)| {
        let mut around = restricted();
        change(&mut around);
        around
    };
    let old = KernelVersion::new(5, 10);
    let rows = [
        (
            Call::Bpf,
            libc::EPERM,
            change(&|around| around.held = CapabilitySet::PERFMON),
            Cause::Capability(CapabilitySet::BPF),
        ),
        (
            Call::Bpf,
            libc::EPERM,
            change(&|around| around.held = CapabilitySet::empty()),
            Cause::Capability(CapabilitySet::BPF | CapabilitySet::PERFMON),
        ),
        // The runtime's filter follows the capability.
        (
            Call::Bpf,
            libc::EPERM,
            change(&|around| {
                around.held = CapabilitySet::PERFMON;
                around.filtered = true;
            }),
            Cause::Capability(CapabilitySet::BPF),
        ),
        (
            Call::Bpf,
            libc::EPERM,
            change(&|around| around.filtered = true),
            Cause::Seccomp,
        ),
        (
            Call::Bpf,
            libc::ENOSYS,
            change(&|around| around.filtered = true),
            Cause::Seccomp,
        ),
        (
            Call::Bpf,
            libc::EPERM,
            change(&|around| around.release = Some(old)),
            Cause::MemoryLock(64 * 1024),
        ),
        (
            Call::Bpf,
            libc::EPERM,
            change(&|around| {
                around.release = Some(old);
                around.memory_lock = None;
            }),
            Cause::Unseen { modules: None },
        ),
        (
            Call::Bpf,
            libc::EINVAL,
            change(&|around| around.lockdown = Some("confidentiality".to_owned())),
            Cause::Lockdown,
        ),
        (
            Call::Bpf,
            libc::EINVAL,
            change(&|around| around.lockdown = Some("integrity".to_owned())),
            Cause::Kernel { since: OLDEST },
        ),
        (
            Call::Bpf,
            libc::EACCES,
            change(&|around| around.confined = Some(selinux.clone())),
            Cause::Confined(selinux.clone()),
        ),
        (Call::Bpf, libc::ENOMEM, restricted(), Cause::Memory),
        (
            Call::Bpf,
            libc::EPERM,
            restricted(),
            Cause::Unseen { modules: None },
        ),
        (
            Call::PerfEventOpen,
            libc::EACCES,
            change(&|around| around.perf_event_paranoid = Some(4)),
            Cause::PerfEventParanoid(4),
        ),
        (
            Call::PerfEventOpen,
            libc::EACCES,
            change(&|around| {
                around.perf_event_paranoid = Some(4);
                around.held = CapabilitySet::all();
            }),
            Cause::Unseen { modules: None },
        ),
        (
            Call::Mount,
            libc::EPERM,
            restricted(),
            Cause::Capability(CapabilitySet::SYS_ADMIN),
        ),
        (
            Call::Mount,
            libc::EACCES,
            change(&|around| {
                around.held = CapabilitySet::all();
                around.confined = Some(apparmor.clone());
            }),
            Cause::Confined(apparmor.clone()),
        ),
        (
            Call::Tracefs,
            libc::EPERM,
            change(&|around| around.lockdown = Some("confidentiality".to_owned())),
            Cause::Lockdown,
        ),
        (
            Call::Tracefs,
            libc::ENOENT,
            restricted(),
            Cause::Config("CONFIG_FTRACE_SYSCALLS"),
        ),
    ];
    for (call, errno, around, expected) in rows {
        let cause = judge(call, Some(errno), OLDEST, &around);
        assert_eq!(cause, expected, "{call}, errno {errno}, {around:?}");
    }
}

#[test]
fn sys_admin_stands_in_for_bpf_and_perfmon() {
    let mut around = restricted();
    around.held = CapabilitySet::SYS_ADMIN;
    for call in [Call::Bpf, Call::PerfEventOpen, Call::Mount] {
        assert!(around.missing_for(call).is_empty(), "{call}");
    }
}

#[test]
fn no_remedy_advises_what_is_held() {
    for call in [Call::Bpf, Call::PerfEventOpen, Call::Tracefs] {
        let cause = judge(call, Some(libc::EPERM), OLDEST, &restricted());
        let remedy = cause.remedy(call);
        assert!(!remedy.contains("CAP_"), "{remedy}");
    }
}

#[test]
fn a_remedy_reads_as_a_sentence() {
    let both = Cause::Capability(CapabilitySet::BPF | CapabilitySet::PERFMON);
    assert_eq!(
        both.remedy(Call::Bpf),
        "add CAP_PERFMON and CAP_BPF to the container's capabilities, or run privileged"
    );
    assert_eq!(
        Cause::PerfEventParanoid(4).remedy(Call::PerfEventOpen),
        "kernel.perf_event_paranoid is 4 on this node, which refuses perf_event_open() to all \
         without CAP_SYS_ADMIN: set it to 2, or run privileged"
    );
    let newer = Cause::Kernel {
        since: KernelVersion::new(5, 11),
    };
    assert_eq!(newer.remedy(Call::Bpf), "needs Linux 5.11 or later");
    let apparmor = Confinement::AppArmor("docker-default".to_owned());
    assert_eq!(
        Cause::Confined(apparmor).remedy(Call::Mount),
        "mount tracefs on the node at /sys/kernel/tracing, and give the pod that as a \
         read-only hostPath; or AppArmor confines this process by the profile docker-default, \
         which is likely to refuse the mount of tracefs: set appArmorProfile to Unconfined, or \
         to one that admits it"
    );
}
