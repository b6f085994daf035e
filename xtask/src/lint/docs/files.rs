//! The page of files: each with the first sentence of its own comment.

use std::{fmt::Write as _, path::Path};

use super::{Tree, cell, link};
use crate::lint::block::Block;

const PAGE: &str = "agent/docs/files.md";

/// Directories with their titles. A file belongs to the first one that contains it.
const PARTS: &[(&str, &str)] = &[
    ("agent/link/src", "The core: agent/link/src"),
    ("agent/src", "The running agent and its shells: agent/src"),
    ("agent-ebpf", "The kernel half: agent-ebpf"),
    ("agent", "Beside them: agent"),
    (
        "tests/src",
        "The test bed, demo, bench and campaign: tests/src",
    ),
    ("tests", "The suites: tests"),
    ("xtask", "Every habit of the project: xtask"),
];

pub(super) fn blocks(tree: &Tree, faults: &mut Vec<String>) -> Vec<Block> {
    let mut text = String::new();
    for (index, (directory, title)) in PARTS.iter().enumerate() {
        let _ = write!(
            text,
            "\n## {title}\n\n| file | what is in it |\n|---|---|\n"
        );
        let earlier = PARTS.get(..index).unwrap_or_default();
        let mut files: Vec<_> = tree
            .below(directory)
            .filter(|(file, _)| !earlier.iter().any(|(other, _)| file.starts_with(other)))
            .collect();
        // A directory's own files come before those of its subdirectories.
        files.sort_by_key(|(file, _)| {
            let depth = file.components().count();
            (depth > Path::new(directory).components().count() + 1, *file)
        });
        for (file, source) in files {
            let Some(summary) = &source.summary else {
                faults.push(format!("{}: it does not begin with `//!`", file.display()));
                continue;
            };
            let name = file.strip_prefix(directory).unwrap_or(file).display();
            let _ = writeln!(
                text,
                "| [{name}]({}) | {} |",
                link(PAGE, file),
                cell(summary)
            );
        }
    }
    text.push('\n');
    vec![Block {
        document: PAGE,
        name: "files".to_owned(),
        text,
    }]
}
