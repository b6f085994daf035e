//! The reasons why an agent has no memory.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why there is no memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    /// The directory cannot be used.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory that could not be opened or read.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// Another agent holds the directory: two agents cannot write to one file.
    #[error("{path}: another statlink uses it", path = .0.display())]
    Taken(PathBuf),
}

/// An error about what is at `path`.
pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> MemoryError {
    move |source| MemoryError::Io {
        path: path.to_owned(),
        source,
    }
}
