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
/// If something cannot be removed, or the node's bpffs cannot be seen from here.
pub fn uninstall(directory: &Path) -> Result<Uninstalled, PinsError> {
    // Of a directory that somebody else may write to nothing is removed, nor is it read. And where no bpffs is to be
    // seen, nobody can say that nothing is pinned.
    can_pin_in(directory)?;
    if !directory.exists() {
        return Ok(Uninstalled::default());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_bpffs_is_to_be_seen_it_does_not_say_that_nothing_is_pinned() {
        let elsewhere = tempfile::tempdir().unwrap();
        for path in ["", "statlink"] {
            let error = uninstall(&elsewhere.path().join(path)).unwrap_err();
            assert!(matches!(error, PinsError::NotBpffs(_)), "{error}");
        }
    }
}
