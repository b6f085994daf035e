//! Making tracefs visible, without leaving a trace on the host.

use std::{fs, io, path::Path};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

use super::{
    error::{Missing, Refusal},
    refusal::Call,
    version::KernelVersion,
};

/// Whether the tracepoints of tracefs can be seen, and if not, why not.
pub type Tracefs = Result<(), Missing>;

/// Makes the tracepoints visible to this process if they are not.
///
/// Call it before the process has other threads: a mount namespace is a thread's own.
///
/// # Errors
///
/// Fails where tracefs is not visible and its mount is refused, or the kernel has none.
pub fn show() -> Tracefs {
    look().or_else(|hidden| {
        let mounted = mount_privately();
        mounted.map_err(|error| {
            let reason = format!("{}, and mounting one failed: {error}", hidden.reason);
            missing(reason, Call::Mount, &error)
        })
    })
}

/// Whether the tracepoints are visible; mounts nothing.
///
/// # Errors
///
/// Fails where they are not.
pub fn look() -> Tracefs {
    let mut first = None;
    for place in PLACES {
        match fs::metadata(Path::new(place).join("events/syscalls")) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // It is there, and somebody keeps this process from it.
            Err(error) => {
                first.get_or_insert(missing(format!("{place}: {error}"), Call::Tracefs, &error));
            }
        }
    }
    let [place, _] = PLACES;
    Err(first.unwrap_or_else(|| {
        // As the mount that it takes would be refused.
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        missing(
            format!("tracefs is not visible at {place}"),
            Call::Mount,
            &refused,
        )
    }))
}

fn missing(reason: String, call: Call, error: &io::Error) -> Missing {
    let refusal = Refusal {
        call,
        errno: error.raw_os_error(),
        helper_withheld: false,
    };
    Missing::refused(reason, refusal, KernelVersion::OLDEST)
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
