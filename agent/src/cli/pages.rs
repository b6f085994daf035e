//! Shell completions and manual pages, generated from the same definition as the help.

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;
use clap_complete::Shell;

/// Prints the completion script for `shell`.
///
/// # Errors
///
/// If standard output cannot be written.
pub(super) fn completions(shell: Shell, mut command: clap::Command) -> anyhow::Result<()> {
    // The generator panics if its writer fails, as standard output may; a Vec does not.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "statlink", &mut script);
    io::stdout().write_all(&script)?;
    Ok(())
}

/// Prints the manual page, or writes one page for each command into a directory.
///
/// # Errors
///
/// If the output cannot be written.
pub(super) fn manual(directory: Option<&Path>, command: clap::Command) -> anyhow::Result<()> {
    match directory {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            io::stdout().write_all(&page)?;
        }
        Some(directory) => {
            std::fs::create_dir_all(directory)
                .and_then(|()| clap_mangen::generate_to(command, directory))
                .with_context(|| format!("write manual pages into {}", directory.display()))?;
        }
    }
    Ok(())
}
