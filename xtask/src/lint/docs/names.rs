//! Names of the code in the documents: the linked files of an index row define its names, and every
//! name in backticks exists somewhere in the repository.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use super::Tree;

/// The index "where is it decided".
const DECISIONS: &str = "agent/docs/decisions.md";
/// Documents for contributors.
const DOCUMENTS: &[&str] = &[
    "agent/docs/architecture.md",
    "agent/docs/checklists.md",
    DECISIONS,
    "agent/docs/glossary.md",
    "agent-ebpf/README.md",
    "tests/README.md",
];

pub(super) fn faults(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    if let Ok(text) = tree.document(DECISIONS) {
        faults.extend(rows(tree, text));
    }
    let known = words_of(tree);
    for document in DOCUMENTS {
        let Ok(text) = tree.document(document) else {
            faults.push(format!("there is no {document}"));
            continue;
        };
        for (number, line) in prose(text) {
            for name in backticked(line).filter_map(last_name) {
                if !known.contains(name) {
                    faults.push(format!(
                        "{document}:{number}: nothing in the repository is called `{name}`"
                    ));
                }
            }
        }
    }
    faults
}

/// Checks the rows of tables that have a column `where`, with names in the last column or beside
/// the link.
fn rows(tree: &Tree, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut place = None;
    for (number, line) in prose(text) {
        let Some(cells) = cells(line) else {
            place = None;
            continue;
        };
        if place.is_none() {
            place = cells.iter().position(|cell| cell.trim() == "where");
            continue;
        }
        let Some(linking) = place.and_then(|at| cells.get(at)) else {
            continue;
        };
        let beside = cells.get(place.unwrap_or_default() + 1);
        let names: Vec<_> = backticked(linking)
            .chain(beside.into_iter().flat_map(|cell| backticked(cell)))
            .filter_map(last_name)
            .collect();
        let linked: Vec<_> = targets(linking).collect();
        let mut found = BTreeSet::new();
        for target in &linked {
            let Some(file) = resolve(target) else {
                continue;
            };
            let here: Vec<_> = names
                .iter()
                .filter(|name| has(tree, &file, name))
                .copied()
                .collect();
            if here.is_empty() && file.extension().is_some_and(|extension| extension == "rs") {
                let among = names.join(", ");
                faults.push(format!(
                    "{DECISIONS}:{number}: {} defines none of the row's names: {among}",
                    file.display(),
                ));
            }
            found.extend(here);
        }
        for name in names.iter().filter(|name| !found.contains(*name)) {
            faults.push(format!(
                "{DECISIONS}:{number}: none of the files that the row links defines `{name}`"
            ));
        }
    }
    faults
}

/// Whether the file, or one below the directory, has the name. A Rust file must define it, or
/// contain a text that equals it: a file that only uses a name decides nothing, and comments
/// outlive their subject.
fn has(tree: &Tree, path: &Path, name: &str) -> bool {
    let in_code = tree
        .rust
        .iter()
        .filter(|(file, _)| file.starts_with(path))
        .any(|(_, source)| source.defined.contains(name) || source.texts.contains(name));
    let in_text = || {
        tree.text
            .iter()
            .filter(|(file, _)| file.starts_with(path))
            .any(|(_, text)| words(text).any(|word| word == name))
    };
    in_code || in_text()
}

/// Every word of the repository outside of documents.
fn words_of(tree: &Tree) -> BTreeSet<&str> {
    let code = tree.rust.iter().map(|(_, source)| source.text.as_str());
    let text = tree
        .text
        .iter()
        .filter(|(file, _)| file.extension().is_none_or(|extension| extension != "md"));
    code.chain(text.map(|(_, text)| text.as_str()))
        .flat_map(words)
        .collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Lines with their numbers, without fenced code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

/// The cells of a table's row; `None` for another line.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').collect())
}

/// The texts in backticks.
fn backticked(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The last name of a path such as `Kernel::load`; `None` for text that is no Rust name.
fn last_name(code: &str) -> Option<&str> {
    let code = code.strip_suffix("()").unwrap_or(code);
    let is_name = |name: &str| {
        let mut letters = name.chars();
        letters
            .next()
            .is_some_and(|first| first.is_alphabetic() || first == '_')
            && letters.all(|c| c.is_alphanumeric() || c == '_')
    };
    let names: Vec<_> = code.split("::").collect();
    names
        .iter()
        .all(|name| is_name(name))
        .then(|| names.last().copied())?
}

/// Targets of `[text](target)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

/// A link of the index as a path from the root; `None` if it leads elsewhere.
fn resolve(target: &str) -> Option<PathBuf> {
    if target.contains("://") || target.starts_with('#') {
        return None;
    }
    let target = target.split('#').next()?;
    let mut path = Path::new(DECISIONS).parent()?.to_owned();
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::Prefix(_) | Component::RootDir => {}
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::docs::source::Source;

    fn tree(index: &str) -> Tree {
        let code = "/// Not `gone`.\nfn here() { used() }\nconst LIMIT: u8 = 1;";
        Tree {
            rust: vec![
                ("agent/src/a.rs".into(), Source::read(code).unwrap()),
                (
                    "agent/src/b.rs".into(),
                    Source::read("fn other() {}").unwrap(),
                ),
            ],
            text: vec![
                (DECISIONS.into(), index.to_owned()),
                ("deploy/v.yaml".into(), "memory: 1".to_owned()),
            ],
        }
    }

    #[test]
    fn a_row_names_what_is_in_the_files_that_it_links() {
        let index = "| question | where | look for |\n|---|---|---|\n\
             | `x.y`? | [a](../src/a.rs), [b](../src/b.rs) | `here`, `A::LIMIT`; `other()` |\n\
             | z | [v](../../deploy/v.yaml) | `memory` |\n\
             | all of it | [d](../../deploy) |  |\n\n\
             | question | reason | where |\n|---|---|---|\n| why | so | [a](../src/a.rs) `here` |\n";
        assert_eq!(rows(&tree(index), index), [""; 0]);
    }

    #[test]
    fn what_is_not_there_is_named_with_its_line() {
        let index = "| question | where | look for |\n|---|---|---|\n\
             | x | [a](../src/a.rs) | `here`, `gone`, `used` |\n\
             | y | [a](../src/a.rs), [b](../src/b.rs) | `here` |\n";
        assert_eq!(
            rows(&tree(index), index),
            [
                "agent/docs/decisions.md:3: none of the files that the row links defines `gone`",
                "agent/docs/decisions.md:3: none of the files that the row links defines `used`",
                "agent/docs/decisions.md:4: agent/src/b.rs defines none of the row's names: here",
            ]
        );
    }

    #[test]
    fn names_are_told_from_other_code() {
        assert_eq!(last_name("Kernel::load"), Some("load"));
        assert_eq!(last_name("connect()"), Some("connect"));
        assert_eq!(last_name("--fix"), None);
        assert_eq!(last_name("service.name"), None);
        assert_eq!(last_name("cargo xtask"), None);
    }
}
