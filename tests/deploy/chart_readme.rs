//! The chart's README lists every value, as `values.yaml` describes it.

use std::{fmt::Write as _, fs};

use serde_json::Value;
use statlink_tests::deploy;

/// A value: its path, its default, and the comment above it.
struct Row {
    path: String,
    default: Value,
    meaning: String,
}

/// What stands above each key of `values.yaml`, by its path, in the order of the file.
fn comments(values: &str) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut above: Vec<&str> = Vec::new();
    let mut path: Vec<(usize, String)> = Vec::new();
    for line in values.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(comment) = text.strip_prefix('#') {
            above.push(comment.trim());
        } else if text.is_empty() {
            above.clear();
        } else if let Some((key, _)) = text.split_once(':')
            && !text.starts_with('-')
        {
            path.retain(|(outer, _)| *outer < indent);
            path.push((indent, key.to_owned()));
            let keys = path.iter().map(|(_, key)| key.clone()).collect();
            found.push((keys, above.join(" ")));
            above.clear();
        }
    }
    found
}

/// One row for each value that has a meaning of its own: a group of values is none, and what a value
/// without described parts holds is its default.
fn rows(values: &str) -> Vec<Row> {
    let defaults: Value = serde_saphyr::from_str(values).unwrap();
    let comments = comments(values);
    let mut rows: Vec<Row> = Vec::new();
    for (path, meaning) in &comments {
        let is_part = |row: &Row| path.join(".").starts_with(&format!("{}.", row.path));
        if rows.last().is_some_and(is_part) {
            continue;
        }
        let is_group = comments.iter().any(|(part, meaning)| {
            part.len() > path.len() && part.starts_with(path) && !meaning.is_empty()
        });
        if is_group {
            continue;
        }
        let default = path.iter().fold(&defaults, |value, key| &value[key]);
        rows.push(Row {
            path: path.join("."),
            default: default.clone(),
            meaning: meaning.clone(),
        });
    }
    rows
}

fn table(rows: &[Row]) -> String {
    let mut table = String::from("| value | default | |\n|---|---|---|\n");
    for Row {
        path,
        default,
        meaning,
    } in rows
    {
        let meaning = meaning.replace('|', "\\|");
        writeln!(table, "| `{path}` | `{default}` | {meaning} |").unwrap();
    }
    table
}

#[test]
fn the_readme_lists_every_value() {
    let values = fs::read_to_string(deploy::chart().join("values.yaml")).unwrap();
    let rows = rows(&values);
    let undescribed = rows.iter().filter(|row| row.meaning.is_empty());
    let undescribed: Vec<_> = undescribed.map(|row| &row.path).collect();
    assert!(
        undescribed.is_empty(),
        "values.yaml says nothing of {undescribed:?}"
    );
    assert!(rows.len() > 30, "{}", rows.len());

    let file = deploy::chart().join("README.md");
    let readme = fs::read_to_string(&file).unwrap();
    let (before, rest) = readme.split_once("<!-- values -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /values -->").unwrap();
    let written = format!(
        "{before}<!-- values -->\n{}<!-- /values -->{after}",
        table(&rows)
    );
    if std::env::var_os("STATLINK_WRITE").is_some() {
        fs::write(&file, &written).unwrap();
    }
    assert!(
        fs::read_to_string(&file).unwrap() == written,
        "the table is old: STATLINK_WRITE=1 cargo test -p statlink-tests --test deploy \
         the_readme_lists_every_value writes it"
    );
}
