//! The memory's file: lock, read, replace and remove it, whatever else is in the directory.
//!
//! Anybody who may write to the directory may leave something harmful there: a FIFO without a
//! writer, a hard link to somebody else's file, a file that he can still read later. So the agent
//! reads and locks only a plain file that this user owns and that has no other name, and it always
//! writes a new file.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, FsWord, flock, fstatfs},
    io::Errno,
    process::geteuid,
};

use super::{
    error::{MemoryError, failed},
    format::Refusal,
};

/// The files of one agent's memory.
#[derive(Debug)]
pub(super) struct MemoryFile {
    directory: PathBuf,
    /// Held for as long as the agent lives. The kernel releases it when the process dies.
    lock: File,
    /// The open file, to be emptied if its name cannot be removed.
    kept: Option<File>,
}

/// What the file contained; `None` if there was no file.
pub(super) type Found = Option<Result<Vec<u8>, Refusal>>;

impl MemoryFile {
    /// Locks `directory` for this agent and reads the file in it.
    pub(super) fn open(directory: &Path) -> Result<(Self, Found), MemoryError> {
        // If the directory cannot be made, opening the lock reports why.
        let _ = DirBuilder::new().mode(0o700).create(directory);
        let lock = lock(&directory.join(LOCK))?;
        let path = directory.join(FILE);
        let (kept, found) = match open_own(&path) {
            Ok(Some(mut file)) => {
                let mut bytes = Vec::new();
                let read = (&mut file).take(LARGEST).read_to_end(&mut bytes);
                read.map_err(failed(&path))?;
                (Some(file), Some(Ok(bytes)))
            }
            Ok(None) => (None, Some(Err(Refusal::NotOwn))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
            Err(error) => return Err(failed(&path)(error)),
        };
        let directory = directory.to_owned();
        let file = Self {
            directory,
            lock,
            kept,
        };
        Ok((file, found))
    }

    /// Whether a write may wait for a disk.
    pub(super) fn is_on_disk(&self) -> bool {
        fstatfs(&self.lock).is_ok_and(|stat| !IN_MEMORY.contains(&stat.f_type))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Replaces the file by one with these bytes.
    pub(super) fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let new = self.directory.join(NEW);
        remove(&new)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(PRIVATE)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&new)?;
        file.write_all(bytes)?;
        // No fsync: the page cache survives the process, and a crash of the machine ends the boot
        // that the file belongs to.
        fs::rename(new, self.directory.join(FILE))?;
        self.kept = Some(file);
        Ok(())
    }

    /// Removes the file: its counts are lower than those already shown.
    pub(super) fn discard(&mut self) -> io::Result<()> {
        // A half-written new file takes room that the next one needs. It may be what cannot be
        // removed.
        let _ = remove(&self.directory.join(NEW));
        let kept = self.kept.take();
        match (remove(&self.directory.join(FILE)), kept) {
            (Ok(()), _) => Ok(()),
            // A successor refuses an empty file.
            (Err(_), Some(file)) => file.set_len(0),
            (Err(error), None) => Err(error),
        }
    }
}

/// Waits until nobody has `directory`; may be for ever.
pub(super) fn wait(directory: &Path) -> io::Result<()> {
    let lock = open_lock(&directory.join(LOCK))?;
    Ok(flock(&lock, FlockOperation::LockExclusive)?)
}

/// Removes the file in `directory`. The agent counts without it, so a successor must not continue
/// from it. If it cannot be removed either, it stays until it is too old to be believed.
pub(super) fn leave_nothing(directory: &Path) {
    let _ = fs::remove_file(directory.join(FILE));
}

fn lock(path: &Path) -> Result<File, MemoryError> {
    let file = open_lock(path).map_err(failed(path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(MemoryError::Taken(path.to_owned())),
        Err(error) => Err(failed(path)(error.into())),
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if is_own(&file)? {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, Refusal::NotOwn))
    }
}

/// Opens the file at `path`; `None` if it is not this user's own.
fn open_own(path: &Path) -> io::Result<Option<File>> {
    let opened = OpenOptions::new()
        .read(true)
        // To empty it where its name cannot be removed.
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    match opened {
        Ok(file) => Ok(is_own(&file)?.then_some(file)),
        // open(2) fails so on a symbolic link, a socket or a directory.
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => Ok(None),
            _ => Err(error),
        },
    }
}

fn is_own(file: &File) -> io::Result<bool> {
    let file = file.metadata()?;
    Ok(file.is_file() && file.uid() == geteuid().as_raw() && file.nlink() == 1)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) const FILE: &str = "memory";
pub(super) const NEW: &str = "memory.new";
pub(super) const LOCK: &str = "memory.lock";
/// Readable by root alone, like the control socket.
const PRIVATE: u32 = 0o600;
/// Ten times the size for the largest number of accounts (some 600, 2 kB each). A larger file is no
/// memory.
const LARGEST: u64 = 12 << 20;
/// tmpfs and ramfs (`TMPFS_MAGIC` and `RAMFS_MAGIC` of Linux' `magic.h`).
const IN_MEMORY: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];
