//! The file in its directory: how it is locked, read, replaced and taken away, whatever else is there.
//!
//! Whoever may write to the directory may leave there what does harm: a FIFO that nobody writes to, a
//! name of a file that is somebody's, a file that stays readable for him. So nothing is read or locked that is
//! not a plain file of this user's with this name alone, and what is written is always new.

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

/// The place of the memory of one agent.
#[derive(Debug)]
pub(super) struct MemoryFile {
    directory: PathBuf,
    /// Held for as long as the agent lives; the kernel lets go of it at its death.
    lock: File,
    /// What is at the name, for when the name cannot be taken away.
    kept: Option<File>,
}

/// What was in it; `None` if there was no file.
pub(super) type Found = Option<Result<Vec<u8>, Refusal>>;

impl MemoryFile {
    /// Takes `directory` for this agent alone, and reads what is there.
    pub(super) fn open(directory: &Path) -> Result<(Self, Found), MemoryError> {
        let opened = Self::lock_and_read(directory);
        if let Err(MemoryError::Io { .. }) = &opened {
            leave_nothing(directory);
        }
        opened
    }

    fn lock_and_read(directory: &Path) -> Result<(Self, Found), MemoryError> {
        // If it cannot be, the lock says why.
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

    /// Whether a disk may be waited for at each write.
    pub(super) fn is_on_disk(&self) -> bool {
        fstatfs(&self.lock).is_ok_and(|stat| !IN_MEMORY.contains(&stat.f_type))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// These bytes take the place of what was there.
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
        // No fsync: a process's death leaves the page cache alone, and a machine's ends the boot that
        // the file is of.
        fs::rename(new, self.directory.join(FILE))?;
        self.kept = Some(file);
        Ok(())
    }

    /// Leaves nothing: what is there is older than what was shown.
    pub(super) fn discard(&mut self) -> io::Result<()> {
        // Half of a new one takes room that the next one needs. It may be what cannot be removed.
        let _ = remove(&self.directory.join(NEW));
        let kept = self.kept.take();
        match (remove(&self.directory.join(FILE)), kept) {
            (Ok(()), _) => Ok(()),
            // What is empty is refused.
            (Err(_), Some(file)) => file.set_len(0),
            (Err(error), None) => Err(error),
        }
    }
}

/// The agent runs on and counts, and its successor must not go on from before that. Where the file cannot be
/// taken away either, there is nothing left to try: it grows old.
pub(super) fn leave_nothing(directory: &Path) {
    let _ = fs::remove_file(directory.join(FILE));
}

fn lock(path: &Path) -> Result<File, MemoryError> {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = opened.map_err(failed(path))?;
    if !is_own(&file).map_err(failed(path))? {
        let error = io::Error::new(io::ErrorKind::InvalidInput, Refusal::NotOwn);
        return Err(failed(path)(error));
    }
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(MemoryError::Taken(path.to_owned())),
        Err(error) => Err(failed(path)(error.into())),
    }
}

/// The file at `path`; `None` if that is not this user's own.
fn open_own(path: &Path) -> io::Result<Option<File>> {
    let opened = OpenOptions::new()
        .read(true)
        // To be emptied, where its name cannot be taken away.
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    match opened {
        Ok(file) => Ok(is_own(&file)?.then_some(file)),
        // A symbolic link, a socket, a directory: open(2).
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
/// For root alone, like the control socket.
const PRIVATE: u32 = 0o600;
/// Ten times what as many pods take as there are accounts of (some 600, 2 kB each): what is larger is
/// no memory.
const LARGEST: u64 = 12 << 20;
/// tmpfs and ramfs (`TMPFS_MAGIC` and `RAMFS_MAGIC` of Linux' `magic.h`).
const IN_MEMORY: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];
