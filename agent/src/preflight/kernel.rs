//! The kernel, its types and each hook.

use std::{io::ErrorKind, path::Path};

use super::finding::{Finding, Verdict};
use crate::{
    chain::chain,
    kernel::{
        ConnectSeen, HookState, Kernel, KernelError, PinsError, Watch, Way, tracefs::Tracefs,
        try_to_pin_in,
    },
};

pub(super) fn check(watch: &Watch, tracefs: &Tracefs) -> Vec<Finding> {
    let mut findings = vec![release()];
    match Kernel::probe(watch, tracefs) {
        Ok((hooks, connect)) => {
            findings.extend(seen(&connect));
            if connect.way == Some(Way::Tracepoints) {
                findings.push(tracing(tracefs));
            }
            findings.push(Finding::new(
                "kernel types",
                TYPES,
                "every structure is as the programs need it",
            ));
            findings.extend(hooks.iter().map(hook));
        }
        Err(error) => findings.extend([tracing(tracefs), failure(&error)]),
    }
    findings
}

/// Reported and not judged: distributions backport features, and the hooks are tried anyway.
fn release() -> Finding {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let machine = name.machine().to_string_lossy();
    Finding::new(
        "kernel",
        "have BPF with types and a ring buffer: 5.10 or later",
        format!("Linux {release}, {machine}"),
    )
}

/// Where not every way to see connect() was tried, or the dearer one is taken.
fn seen(connect: &ConnectSeen) -> Option<Finding> {
    let finding = |detail| Finding::new("connect()", "see it without a cost for others", detail);
    Some(match (connect.way, &connect.fallen_back) {
        (Some(Way::Functions), _) => finding("by fexit".to_owned()),
        (Some(Way::Tracepoints), Some(refused)) => finding(format!(
            "by tracepoints, which make each system call of the node about 40 ns slower; \
             this kernel refuses fexit: {}",
            refused.reason
        )),
        (Some(Way::Tracepoints), None) => return None,
        (None, _) => finding(
            "off, by --connect-hook=off: attempts that fail before a SYN, and name lookups, are not seen"
                .to_owned(),
        ),
    })
}

fn tracing(tracefs: &Tracefs) -> Finding {
    let finding = |detail: &str| Finding::new("tracefs", "attach the hooks of connect()", detail);
    match tracefs {
        Ok(()) => finding(
            "visible (the node's, or one that the agent mounted for itself), to attach the hooks of \
             connect()",
        ),
        Err(hidden) => finding(&hidden.reason).withheld(Verdict::Warning, hidden),
    }
}

fn hook(state: &HookState) -> Finding {
    let hook = state.hook;
    let finding = |detail| Finding::new(format!("hook {}", hook.name), hook.purpose, detail);
    match (&state.missing, hook.without()) {
        (None, _) => finding("attaches".to_owned()),
        (Some(missing), Some(lost)) => {
            finding(format!("{}; {lost}", missing.reason)).withheld(Verdict::Warning, missing)
        }
        (Some(missing), None) => {
            finding(missing.reason.clone()).withheld(Verdict::Unsupported, missing)
        }
    }
}

/// Whether the kernel half can outlive the agent. Nothing is pinned for it.
pub(super) fn pins(directory: &Path) -> Finding {
    let finding = |detail| Finding::new("pins", "have the kernel half outlive the agent", detail);
    match try_to_pin_in(directory) {
        Ok(()) => finding(format!("{} is on a bpffs", directory.display())),
        Err(error) => finding(chain(&error)).with_verdict(Verdict::Warning, cure_of_pins(&error)),
    }
}

fn cure_of_pins(error: &PinsError) -> &'static str {
    match error {
        PinsError::NotBpffs(_) => {
            "mount a bpffs on the node (systemd mounts one at /sys/fs/bpf), and \
             in Kubernetes mount /sys/fs/bpf into the agent's pod"
        }
        PinsError::Unsafe(_) => "leave the directory to the agent's user alone",
        PinsError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            "where AppArmor confines the container, its default profile denies it: set appArmorProfile \
             (security.appArmorProfile in the chart) to one that does not"
        }
        PinsError::Owned(_) | PinsError::Logging | PinsError::Io { .. } => "see the message",
    }
}

fn failure(error: &KernelError) -> Finding {
    let subject = match error {
        KernelError::NoBtf { .. } | KernelError::Layout { .. } => "kernel types",
        KernelError::PidNamespace => "pid namespace",
        KernelError::Load(_)
        | KernelError::Hook { .. }
        | KernelError::Map { .. }
        | KernelError::Run { .. }
        | KernelError::Ring(_) => "kernel half",
    };
    let detail = format!("{}: {}", error.what(), error.why());
    let finding = Finding::new(subject, TYPES, detail);
    if let KernelError::Load(missing) | KernelError::Hook { missing, .. } = error {
        return finding.withheld(Verdict::Unsupported, missing);
    }
    let cure = error.cure().unwrap_or("see the message".into());
    finding.with_verdict(Verdict::Unsupported, cure)
}

const TYPES: &str = "find the fields of sockets in this kernel";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_pinning_is_denied_the_cure_names_what_may_deny_it() {
        let denied = |kind: ErrorKind| PinsError::Io {
            what: "make",
            path: "/sys/fs/bpf/statlink".into(),
            source: kind.into(),
        };
        let cure = cure_of_pins(&denied(ErrorKind::PermissionDenied));
        assert!(cure.contains("appArmorProfile"), "{cure}");
        assert_eq!(
            cure_of_pins(&denied(ErrorKind::NotFound)),
            "see the message"
        );
    }
}
