//! `statlink uninstall`: ends what outlives the agents of this node.

use std::{fs, path::Path};

use super::directory::{PinsError, can_pin_in, failed, ours, remove};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uninstalled {
    /// The formats, each with how many pins there were.
    pub formats: Vec<(String, usize)>,
    /// Whether the directory itself went: it does unless somebody else has something in it.
    pub directory: bool,
}

/// Removes what agents have pinned in `directory`, and nothing else. An agent that runs goes on, and what it
/// has attached ends with it.
///
/// # Errors
///
/// If something cannot be removed.
pub fn uninstall(directory: &Path) -> Result<Uninstalled, PinsError> {
    if !directory.exists() {
        return Ok(Uninstalled::default());
    }
    // Of a directory that somebody else may write to nothing is removed, nor is it read.
    can_pin_in(directory)?;
    let mut removed = Uninstalled::default();
    for name in ours(directory)? {
        let pins = remove(&directory.join(&name))?;
        removed.formats.push((name, pins));
    }
    removed.directory = match fs::remove_dir(directory) {
        Ok(()) => true,
        // EEXIST or ENOTEMPTY: what is left is not an agent's.
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => false,
        Err(error) => return Err(failed("remove", directory)(error)),
    };
    Ok(removed)
}
