//! The kernel, its types and each hook.

use super::finding::{Finding, Verdict};
use crate::kernel::{HookState, Kernel, KernelError, Watch, tracefs};

pub(super) fn check(watch: &Watch) -> Vec<Finding> {
    let mut findings = vec![release(), tracing()];
    match Kernel::probe(watch) {
        Ok(hooks) => {
            findings.push(Finding::new(
                "kernel types",
                TYPES,
                "every structure is as the programs need it",
            ));
            findings.extend(hooks.iter().map(hook));
        }
        Err(error) => findings.push(failure(&error)),
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

fn tracing() -> Finding {
    let finding = |detail| Finding::new("tracefs", "attach the hooks of connect()", detail);
    if tracefs::visible() {
        finding("visible, or mounted by the agent for itself alone")
    } else {
        finding("not visible").with_verdict(
            Verdict::Warning,
            "mount it at /sys/kernel/tracing, or give CAP_SYS_ADMIN so that the agent mounts one for itself",
        )
    }
}

fn hook(state: &HookState) -> Finding {
    let hook = state.hook;
    let finding = |detail| Finding::new(format!("hook {}", hook.name), hook.purpose, detail);
    match (&state.missing, hook.without()) {
        (None, _) => finding("attaches".to_owned()),
        (Some(missing), Some(lost)) => finding(format!("{}; {lost}", missing.reason))
            .with_verdict(Verdict::Warning, missing.cure.clone()),
        (Some(missing), None) => {
            finding(missing.reason.clone()).with_verdict(Verdict::Unsupported, missing.cure.clone())
        }
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
    let cure = error.cure().unwrap_or("see the message".into());
    Finding::new(subject, TYPES, detail).with_verdict(Verdict::Unsupported, cure)
}

const TYPES: &str = "find the fields of sockets in this kernel";
