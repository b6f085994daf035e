//! Temporary directories. The next run removes those of killed runs.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

/// A directory, removed on drop; its path is short enough for a socket's. Removes those that killed runs
/// left.
pub(crate) fn directory(what: &str) -> Result<TempDir> {
    let root = std::env::temp_dir();
    sweep(&root, |pid| !Path::new("/proc").join(pid).exists());
    let prefix = format!("{PREFIX}{}-{what}-", std::process::id());
    TempDir::with_prefix_in(prefix, &root)
        .with_context(|| format!("make a directory in {}", root.display()))
}

/// Removes this process's directories when a signal ends it.
pub(crate) fn remove_own() {
    let own = std::process::id().to_string();
    sweep(&std::env::temp_dir(), |pid| pid == own);
}

fn sweep(root: &Path, gone: impl Fn(&str) -> bool) {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && gone(pid)) {
            let _ = unmount(entry.path().join(MOUNTED), UnmountFlags::DETACH);
            // Another run may be removing it, too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Where something is mounted in such a directory, if anything is.
pub(crate) const MOUNTED: &str = "mounted";
/// Followed by the process id of the run that owns the directory.
const PREFIX: &str = "statlink-bed-";
