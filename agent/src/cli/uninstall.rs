//! `statlink uninstall`.

use std::{
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use crate::{
    kernel::{Uninstalled, uninstall},
    terminal::{printable, write_json},
};

/// The shape of `--json`.
#[derive(Serialize)]
struct Document {
    version: &'static str,
    /// Where it was looked.
    directory: String,
    /// What was removed: of each format of the kernel half, how many pins.
    removed: Vec<Format>,
    /// Whether the directory was removed as well: not if it was not there, or holds what is somebody else's.
    directory_removed: bool,
}

#[derive(Serialize)]
struct Format {
    format: String,
    pins: usize,
}

/// Removes what is pinned in `directory`, and says what that was.
///
/// # Errors
///
/// If something cannot be removed, or standard output cannot be written.
pub(super) fn run(directory: &Path, json: bool) -> anyhow::Result<()> {
    let removed = uninstall(directory)?;
    let mut out = io::stdout().lock();
    if json {
        let document = document(directory, removed);
        write_json(&mut out, &serde_json::to_string_pretty(&document)?)?;
    } else {
        text(&mut out, directory, &removed)?;
    }
    Ok(())
}

fn document(directory: &Path, removed: Uninstalled) -> Document {
    let formats = removed.formats.into_iter();
    Document {
        version: env!("CARGO_PKG_VERSION"),
        directory: directory.display().to_string(),
        removed: formats
            .map(|(format, pins)| Format { format, pins })
            .collect(),
        directory_removed: removed.directory,
    }
}

fn text(out: &mut impl Write, directory: &Path, removed: &Uninstalled) -> io::Result<()> {
    let directory = directory.display().to_string();
    let directory = printable(&directory);
    if removed.formats.is_empty() {
        return writeln!(out, "Nothing of statlink's is pinned in {directory}.");
    }
    for (format, pins) in &removed.formats {
        writeln!(out, "Removed {directory}/{format}: {pins} pins.")?;
    }
    if !removed.directory {
        writeln!(out, "Left {directory}: somebody else has something in it.")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(removed: &Uninstalled) -> String {
        let mut out = Vec::new();
        text(&mut out, Path::new("/sys/fs/bpf/statlink"), removed).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn it_says_what_was_removed_and_what_was_left() {
        let nothing = Uninstalled::default();
        let expected = "Nothing of statlink's is pinned in /sys/fs/bpf/statlink.\n";
        assert_eq!(said(&nothing), expected);
        let mut removed = Uninstalled {
            formats: vec![("v1-0f".to_owned(), 25)],
            directory: true,
        };
        let one = "Removed /sys/fs/bpf/statlink/v1-0f: 25 pins.\n";
        assert_eq!(said(&removed), one);
        removed.directory = false;
        let left = "Left /sys/fs/bpf/statlink: somebody else has something in it.\n";
        assert_eq!(said(&removed), format!("{one}{left}"));
    }

    #[test]
    fn the_document_has_the_same() {
        let removed = Uninstalled {
            formats: vec![("v1-0f".to_owned(), 25)],
            directory: true,
        };
        let document = document(Path::new("/sys/fs/bpf/statlink"), removed);
        let json = serde_json::to_value(document).unwrap();
        assert_eq!(json["removed"][0]["format"], "v1-0f");
        assert_eq!(json["removed"][0]["pins"], 25);
        assert_eq!(json["directory"], "/sys/fs/bpf/statlink");
        assert_eq!(json["directory_removed"], true);
    }
}
