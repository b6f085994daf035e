//! Files of builds: their sources, and how a finished build is stored.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Several test programs may run at the same time: one builds, the others wait here.
pub(super) fn lock(directory: &Path) -> Result<File> {
    let lock = directory.join("lock");
    let lock = File::create(&lock).with_context(|| format!("create {}", lock.display()))?;
    lock.lock().context("lock the test bed's directory")?;
    Ok(lock)
}

/// The files of a directory, in the order of their names.
pub(super) fn listed(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("list {}", directory.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

pub(super) fn copy(files: &[PathBuf], to: &Path) -> Result<()> {
    for file in files {
        let name = file.file_name().context("a file without a name")?;
        fs::copy(file, to.join(name)).with_context(|| format!("copy {}", file.display()))?;
    }
    Ok(())
}

/// Moves a finished build to its place in one step, so that a build in place is complete.
pub(super) fn keep(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("move {} to {}", from.display(), to.display()))
}

pub(super) fn fresh(directory: &Path) -> Result<PathBuf> {
    // An interrupted build may have left it.
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    Ok(directory.to_owned())
}

pub(super) fn hash(files: &[&Path]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.file_name().hash(&mut hasher);
        read(file)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

pub(super) fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}
