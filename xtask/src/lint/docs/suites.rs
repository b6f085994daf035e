//! The tests: a table of the modules of each suite, and an index of all tests.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{Tree, cell, link, source::Source};
use crate::lint::block::Block;

const README: &str = "tests/README.md";
const INDEX: &str = "tests/INDEX.md";

/// Directories with their titles, in the order in which a reader asks.
const PARTS: &[(&str, &str)] = &[
    ("agent/link/src", "A link: agent/link"),
    ("agent-ebpf", "What the kernel half decides: agent-ebpf"),
    ("agent", "The shells, without a kernel: agent"),
    ("tests/kernel", "On this kernel: tests/kernel"),
    (
        "tests/lifecycle",
        "Start, end, restart, absence: tests/lifecycle",
    ),
    ("tests/peers", "With Knative as peers: tests/peers"),
    (
        "tests/kubernetes_api",
        "With a Kubernetes API: tests/kubernetes_api",
    ),
    ("tests/cluster", "On a Kubernetes: tests/cluster"),
    ("tests/deploy", "What is deployed: tests/deploy"),
    ("tests/test_bed", "The test bed itself: tests/test_bed"),
    ("tests", "The rest of the test bed: tests"),
    ("xtask", "The project's commands: xtask"),
];

pub(super) fn blocks(tree: &Tree) -> Vec<Block> {
    let blocks = [
        (README, "suites", suites(tree)),
        (INDEX, "tests", index(tree)),
    ];
    blocks
        .into_iter()
        .map(|(document, name, text)| Block {
            document,
            name: name.to_owned(),
            text,
        })
        .collect()
}

/// Each module of each suite, except helpers.
fn suites(tree: &Tree) -> String {
    let suites: BTreeSet<_> = tree
        .below("tests")
        .filter(|(file, _)| file.ends_with("main.rs") && !file.starts_with("tests/src"))
        .filter_map(|(file, _)| file.parent())
        .collect();
    let mut text = "\n| module | what it shows | tests |\n|---|---|---|\n".to_owned();
    for suite in suites {
        let files = tree
            .rust
            .iter()
            .filter(|(file, source)| file.starts_with(suite) && !source.tests.is_empty());
        for (file, Source { summary, tests, .. }) in files {
            let name = file.strip_prefix("tests").unwrap_or(file).display();
            let _ = writeln!(
                text,
                "| [{name}]({}) | {} | {} |",
                link(README, file),
                cell(summary.as_deref().unwrap_or_default()),
                tests.len(),
            );
        }
    }
    text.push('\n');
    text
}

/// Each test by its name, which is a sentence.
fn index(tree: &Tree) -> String {
    let mut text = String::new();
    for (at, (directory, title)) in PARTS.iter().enumerate() {
        let earlier = PARTS.get(..at).unwrap_or_default();
        let files: Vec<_> = tree
            .below(directory)
            .filter(|(file, source)| {
                !source.tests.is_empty()
                    && !earlier.iter().any(|(other, _)| file.starts_with(other))
            })
            .collect();
        if files.is_empty() {
            continue;
        }
        let _ = write!(text, "\n## {title}\n");
        for (file, source) in files {
            let name = file.strip_prefix(directory).unwrap_or(file);
            let _ = write!(
                text,
                "\n[{}]({}): {}\n\n",
                name.display(),
                link(INDEX, file),
                super::source::without_references(source.summary.as_deref().unwrap_or_default())
            );
            for test in &source.tests {
                let _ = writeln!(text, "- {}", sentence(test));
            }
        }
    }
    text.push('\n');
    text
}

/// The name of a test as text.
fn sentence(test: &str) -> String {
    test.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn tree() -> Tree {
        let file = |path: &str, text: &str| (PathBuf::from(path), Source::read(text).unwrap());
        Tree {
            rust: vec![
                file(
                    "tests/kernel/a.rs",
                    "//! A. More.\n#[test] fn it_works() {}",
                ),
                file("tests/kernel/helper.rs", "//! Helps.\nfn f() {}"),
                file("tests/kernel/main.rs", "//! All.\nmod a;"),
                file("xtask/src/b.rs", "//! B.\n#[test] fn so_does_this() {}"),
            ],
            text: Vec::new(),
        }
    }

    #[test]
    fn a_suite_lists_the_modules_that_have_tests() {
        assert_eq!(
            suites(&tree()),
            "\n| module | what it shows | tests |\n|---|---|---|\n\
             | [kernel/a.rs](kernel/a.rs) | A. | 1 |\n\n"
        );
    }

    #[test]
    fn the_index_lists_every_test_once() {
        assert_eq!(
            index(&tree()),
            "\n## On this kernel: tests/kernel\n\n[a.rs](kernel/a.rs): A.\n\n- it works\n\
             \n## The project's commands: xtask\n\n[src/b.rs](../xtask/src/b.rs): B.\n\n\
             - so does this\n\n"
        );
    }

    #[test]
    fn a_part_is_a_directory_that_there_is() {
        for (directory, _) in PARTS {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
            assert!(root.join(directory).is_dir(), "{directory}");
        }
    }
}
