//! Each claim of the threat model names tests that exist.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The names of all functions in the sources of the workspace.
fn functions() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = Vec::new();
    for part in ["agent/src", "agent/link/src", "agent-ebpf", "tests"] {
        find_sources(&root.join(part), &mut sources);
    }
    let mut functions = BTreeSet::new();
    for source in sources {
        let text = fs::read_to_string(source).unwrap();
        let names = text.split("fn ").skip(1).filter_map(|rest| {
            let name = rest.split('(').next()?;
            name.chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_')
                .then(|| name.to_owned())
        });
        functions.extend(names);
    }
    functions
}

fn find_sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            find_sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn each_claim_is_held_by_tests_that_exist() {
    let page = include_str!("../../deploy/docs/threat-model.md");
    let rows = page
        .lines()
        .filter(|line| line.starts_with('|') && !line.contains("---"))
        .filter(|line| !line.contains("held by"));
    let functions = functions();
    let mut claims = 0;
    for row in rows {
        claims += 1;
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let tests: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            assert!(functions.contains(test), "there is no test {test}: {row}");
        }
    }
    assert!(claims > 20, "{claims}");
}
