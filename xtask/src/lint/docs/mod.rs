//! Checks of the documents against the code.
//!
//! Some parts are generated from the code's own comments: the files, the reasons of numbers, the
//! tests. The rest is checked: names in backticks, and lists that must be complete.

mod complete;
mod definitions;
mod files;
mod names;
mod numbers;
mod source;
mod suites;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::block;
use crate::{process, workspace::Workspace};
use source::Source;

pub(super) fn check(fix: bool, workspace: &Workspace) -> Result<()> {
    let tree = Tree::read(&workspace.root)?;
    let mut faults = Vec::new();
    let mut blocks = files::blocks(&tree, &mut faults);
    blocks.extend(numbers::blocks(&tree, &mut faults));
    blocks.extend(suites::blocks(&tree));
    // Written first, because the names in them are checked, too.
    let written = block::settle(&blocks, "docs", fix, &workspace.root);
    let tree = Tree::read(&workspace.root)?;
    faults.extend(names::faults(&tree));
    faults.extend(complete::faults(&tree)?);
    if let Err(error) = written {
        faults.push(format!("{error:#}"));
    }
    if !faults.is_empty() {
        bail!("{} faults:\n{}", faults.len(), faults.join("\n"));
    }
    Ok(())
}

/// The repository's files, as they are in the work tree.
struct Tree {
    /// Rust files, by their paths from the root.
    rust: Vec<(PathBuf, Source)>,
    /// All other text.
    text: Vec<(PathBuf, String)>,
}

impl Tree {
    fn read(root: &Path) -> Result<Self> {
        let mut git = Command::new("git");
        git.current_dir(root)
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .arg("--deduplicate");
        let mut tree = Self {
            rust: Vec::new(),
            text: Vec::new(),
        };
        let mut files: Vec<_> = process::capture(&mut git)?
            .lines()
            .map(PathBuf::from)
            .collect();
        files.sort_unstable();
        for file in files {
            // Deleted but not committed yet, or not text.
            let Ok(text) = fs::read_to_string(root.join(&file)) else {
                continue;
            };
            if file.extension().is_some_and(|extension| extension == "rs") {
                let source =
                    Source::read(&text).with_context(|| format!("read {}", file.display()))?;
                tree.rust.push((file, source));
            } else {
                tree.text.push((file, text));
            }
        }
        Ok(tree)
    }

    fn source(&self, path: &str) -> Result<&Source> {
        let found = self.rust.iter().find(|(file, _)| file == Path::new(path));
        found
            .map(|(_, source)| source)
            .with_context(|| format!("there is no {path}"))
    }

    fn document(&self, path: &str) -> Result<&str> {
        let found = self.text.iter().find(|(file, _)| file == Path::new(path));
        found
            .map(|(_, text)| text.as_str())
            .with_context(|| format!("there is no {path}"))
    }

    /// The Rust files below a directory.
    fn below(&self, directory: &str) -> impl Iterator<Item = (&Path, &Source)> {
        let files = self.rust.iter().map(|(file, source)| (&**file, source));
        files.filter(move |(file, _)| file.starts_with(directory))
    }
}

/// A comment's text for a cell of a table.
fn cell(text: &str) -> String {
    source::without_references(text).replace('|', "\\|")
}

/// The relative path from a document to a file, both given from the root.
fn link(document: &str, file: &Path) -> String {
    let directory = Path::new(document).parent().unwrap_or(Path::new(""));
    let common = directory
        .components()
        .zip(file.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = directory.components().skip(common).map(|_| "..");
    let down = file.components().skip(common);
    let mut way = PathBuf::new();
    way.extend(up);
    way.extend(down);
    way.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_up_and_down() {
        let link = |from, to| link(from, Path::new(to));
        assert_eq!(link("agent/docs/a.md", "agent/src/b.rs"), "../src/b.rs");
        assert_eq!(link("agent/docs/a.md", "xtask/b.rs"), "../../xtask/b.rs");
        assert_eq!(link("tests/a.md", "tests/kernel/b.rs"), "kernel/b.rs");
        assert_eq!(link("a.md", "tests/b.rs"), "tests/b.rs");
    }
}
