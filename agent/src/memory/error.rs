//! What keeps an agent from having a memory.

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
        /// What could not be opened or read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two agents cannot write to one.
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
