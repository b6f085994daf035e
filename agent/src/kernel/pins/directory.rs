//! The directory of pins: who owns it, and what is in it.
//!
//! ```text
//! /sys/fs/bpf/statlink/                  locked by the agent that owns it
//!   v1-0123456789abcdef0123456789abcdef/ what one agent has pinned, and all of it
//!     map_RING, prog_HOOK, link_HOOK …
//!   v1-new/                              what an agent is just pinning, or died over
//! ```
//!
//! `v1-new` gets its name when all is in it. So a directory that has a format's name was whole once.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, open, rmdir, statfs, unlinkat},
    io::Errno,
};

use super::format::Format;

/// Why nothing can be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// The place for it is no bpffs.
    #[error("{} is not on a bpffs, where alone programs and maps can be pinned", .0.display())]
    NotBpffs(PathBuf),
    /// Another agent of this node has it.
    #[error("another agent owns {}, and there is one owner at a time", .0.display())]
    Owned(PathBuf),
    /// Somebody else may write to it.
    #[error("{} is not a directory that this agent's user alone may write to: remove it, or give it to that user \
             with mode 0700", .0.display())]
    Unsafe(PathBuf),
    /// The lines of the programs go to one reader.
    #[error("the programs log their own lines, which only the agent that loaded them can read")]
    Logging,
    /// Something could not be done with it.
    #[error("{what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The directory of pins, owned by this process for as long as this lives.
#[derive(Debug)]
pub(crate) struct Pins {
    path: PathBuf,
    /// Closed by the kernel when the process ends, however it does.
    _lock: OwnedFd,
}

impl Pins {
    /// Makes the directory if need be, and owns it.
    ///
    /// # Errors
    ///
    /// If it is not on a bpffs, somebody else owns it or may write to it.
    pub(crate) fn own(path: &Path) -> Result<Self, PinsError> {
        // Looked at first: nothing is made on another file system.
        can_pin_in(path)?;
        make(path)?;
        // Another agent, or `uninstall`, may remove it between the two.
        loop {
            let lock = lock(path)?;
            if is_still(path, &lock)? {
                return Ok(Self {
                    path: path.to_owned(),
                    _lock: lock,
                });
            }
            make(path)?;
        }
    }

    /// Where this format is pinned, if it is.
    pub(crate) fn find(&self, format: &Format) -> Option<PathBuf> {
        Some(self.path.join(format.as_str())).filter(|path| path.is_dir())
    }

    /// An empty directory to pin into.
    pub(crate) fn begin(&self) -> Result<PathBuf, PinsError> {
        let new = self.path.join(NEW);
        if new.exists() {
            remove(&new)?;
        }
        make(&new)?;
        Ok(new)
    }

    /// All is pinned in [`begin`](Self::begin)'s directory: it gets its name, and whatever other agents
    /// left goes. Returns how many formats went.
    pub(crate) fn complete(&self, format: &Format) -> Result<usize, PinsError> {
        let target = self.path.join(format.as_str());
        let mut removed = 0;
        if target.exists() {
            remove(&target)?;
            removed += 1;
        }
        let new = self.path.join(NEW);
        fs::rename(&new, &target).map_err(failed("give its name to", &new))?;
        Ok(removed + self.remove_others(format))
    }

    /// Removes all that agents left.
    pub(crate) fn clear(&self) -> Result<(), PinsError> {
        for name in ours(&self.path)? {
            remove(&self.path.join(name))?;
        }
        Ok(())
    }

    /// Removes what agents of other formats left, and what one died over. Returns how many went. What cannot
    /// be removed costs, and does no other harm.
    pub(crate) fn remove_others(&self, format: &Format) -> usize {
        let others = ours(&self.path).unwrap_or_default().into_iter();
        let others = others.filter(|name| name != format.as_str());
        let removed = others.filter(|name| match remove(&self.path.join(name)) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "What another agent pinned could not be removed.");
                false
            }
        });
        removed.count()
    }
}

/// Whether an agent could pin in this directory, which need not be there. Nothing is made for it.
///
/// # Errors
///
/// If it could not: it, or what it would be made in, is not on a bpffs, or others may write to it.
pub(crate) fn can_pin_in(path: &Path) -> Result<(), PinsError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => {
            require_bpffs(path)?;
            require_own(path, &metadata)
        }
        Err(_) => require_bpffs(path.parent().unwrap_or(path)),
    }
}

/// As `can_pin_in`, and makes a directory where it would pin, and removes it: what confines the process may deny
/// that where all else is well.
///
/// # Errors
///
/// As `can_pin_in`, and if nothing can be made there.
pub fn try_to_pin_in(path: &Path) -> Result<(), PinsError> {
    can_pin_in(path)?;
    let place = if path.exists() {
        Some(path)
    } else {
        path.parent()
    };
    let tried = place
        .unwrap_or(path)
        .join(format!("{TRIED}{}", std::process::id()));
    make(&tried)?;
    fs::remove_dir(&tried).map_err(failed("remove", &tried))
}

/// The names of the directories in `path` that agents have made.
pub(crate) fn ours(path: &Path) -> Result<Vec<String>, PinsError> {
    let names = names(path)?.into_iter();
    Ok(names
        .filter(|name| name == NEW || Format::is_one(name))
        .collect())
}

/// The names of all that is in a directory, in their order.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, PinsError> {
    let failed = failed("read", path);
    let entries = fs::read_dir(path).map_err(&failed)?;
    let names = entries.map(|entry| Ok(entry.map_err(&failed)?.file_name()));
    let mut names: Vec<_> = names
        .map(|name| Ok(name?.to_string_lossy().into_owned()))
        .collect::<Result<_, PinsError>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Removes a directory of pins, which is an agent's own. Its links go first: what is attached ends at once,
/// not bit by bit. Returns how many pins there were.
pub(crate) fn remove(directory: &Path) -> Result<usize, PinsError> {
    // Not through a link that somebody laid there.
    let opened = open_directory(directory)?;
    let mut names = names(directory)?;
    names.sort_by_key(|name| !name.starts_with(LINK));
    for name in &names {
        match unlinkat(&opened, name.as_str(), AtFlags::empty()) {
            // Somebody else may have been first.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("remove", &directory.join(name))(error.into())),
        }
    }
    match rmdir(directory) {
        Ok(()) | Err(Errno::NOENT) => Ok(names.len()),
        Err(error) => Err(failed("remove", directory)(error.into())),
    }
}

/// Opens a directory of this user's own, which is no link to one.
fn open_directory(path: &Path) -> Result<OwnedFd, PinsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened =
        open(path, flags, Mode::empty()).map_err(|error| failed("open", path)(error.into()))?;
    let stat = fstat(&opened).map_err(|error| failed("look at", path)(error.into()))?;
    let writable = stat.st_mode & 0o022 != 0;
    if writable || stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(PinsError::Unsafe(path.to_owned()));
    }
    Ok(opened)
}

fn make(path: &Path) -> Result<(), PinsError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("make", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(crate) fn require_bpffs(path: &Path) -> Result<(), PinsError> {
    let found = statfs(path).map_err(io::Error::from);
    match found {
        Ok(found) if found.f_type == BPF_FS_MAGIC => Ok(()),
        Ok(_) => Err(PinsError::NotBpffs(path.to_owned())),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

fn require_own(path: &Path, metadata: &fs::Metadata) -> Result<(), PinsError> {
    let others = metadata.mode() & 0o022 != 0;
    if others || !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(PinsError::Unsafe(path.to_owned()));
    }
    Ok(())
}

/// A lock of the open directory: it ends with the process, and holds in every container that sees it.
fn lock(path: &Path) -> Result<OwnedFd, PinsError> {
    let directory = open_directory(path)?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(Errno::WOULDBLOCK) => Err(PinsError::Owned(path.to_owned())),
        Err(error) => Err(failed("lock", path)(error.into())),
    }
}

/// Whether `path` still leads to what was locked.
fn is_still(path: &Path, locked: &OwnedFd) -> Result<bool, PinsError> {
    let held = fstat(locked).map_err(|error| failed("look at", path)(error.into()))?;
    Ok(fs::metadata(path).is_ok_and(|now| (now.ino(), now.dev()) == (held.st_ino, held.st_dev)))
}

pub(crate) fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> PinsError {
    let path = path.to_owned();
    move |source| PinsError::Io {
        what,
        path: path.clone(),
        source,
    }
}

const NEW: &str = "v1-new";
/// With which the name of a directory begins that is made to see whether it can be.
const TRIED: &str = "statlink-check-";
/// With which the name of each pin begins.
pub(crate) const MAP: &str = "map_";
pub(crate) const PROGRAM: &str = "prog_";
pub(crate) const LINK: &str = "link_";
/// `BPF_FS_MAGIC`, `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: rustix::fs::FsWord = 0xcafe_4a11;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn on_another_file_system_nothing_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("statlink");
        let error = Pins::own(&path).unwrap_err();
        assert!(matches!(error, PinsError::NotBpffs(_)), "{error}");
        assert!(!path.exists());
        let error = Pins::own(&path.join("deeper")).unwrap_err();
        assert!(matches!(error, PinsError::Io { .. }), "{error}");
    }

    #[test]
    fn only_what_agents_made_is_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let format = Format::of(b"object", &1);
        for name in [NEW, format.as_str(), "cilium", "v1-short"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let found = ours(directory.path()).unwrap();
        let found: BTreeSet<_> = found.iter().map(String::as_str).collect();
        assert_eq!(found, BTreeSet::from([NEW, format.as_str()]));
    }

    #[test]
    fn the_links_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let pins = directory.path().join(NEW);
        fs::create_dir(&pins).unwrap();
        for name in ["map_RING", "prog_x", "link_x"] {
            fs::write(pins.join(name), "").unwrap();
        }
        assert_eq!(remove(&pins).unwrap(), 3);
        assert!(!pins.exists());
        // Somebody else was first.
        assert!(matches!(remove(&pins), Err(PinsError::Io { .. })));
    }
}
