//! Making tracefs visible, without leaving a trace on the host.

use std::{io, path::Path};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

/// Whether the tracepoints of tracefs can be seen.
pub fn visible() -> bool {
    PLACES
        .iter()
        .any(|place| Path::new(place).join("events/syscalls").is_dir())
}

/// Makes the tracepoints visible to this process if they are not.
///
/// Call it before the process has other threads: a mount namespace is a thread's own.
///
/// # Errors
///
/// Fails without CAP_SYS_ADMIN, or where the kernel has no tracefs.
pub fn show() -> io::Result<()> {
    if visible() { Ok(()) } else { mount_privately() }
}

/// Mounts tracefs in a mount namespace of this thread's own, so that nothing of it shows outside.
fn mount_privately() -> io::Result<()> {
    // SAFETY: unshare is unsafe for what CLONE_FILES does to other threads' descriptors; only the
    // mount namespace (and with it the working directory) is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?;
    mount(
        "tracefs",
        "/sys/kernel/tracing",
        "tracefs",
        MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    )?;
    Ok(())
}

/// Where aya looks for it, as other tools do.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
