//! Links inside the documents: each relative link leads to a file of the repository, and each
//! anchor to a heading of it, as GitHub renders them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{process, workspace::Workspace};

pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(&workspace.root)
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .args(["--deduplicate", "*.md"]);
    process::announce("links inside the documents", &git);
    let files: Vec<_> = process::capture(&mut git)?
        .lines()
        .map(PathBuf::from)
        .collect();
    let broken = broken(&workspace.root, &files)?;
    ensure!(
        broken.is_empty(),
        "{} broken:\n{}",
        broken.len(),
        broken.join("\n")
    );
    eprintln!("   {} documents", files.len());
    Ok(())
}

/// The broken links of `files`, which are relative to `root`, one line each.
fn broken(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut documents = BTreeMap::new();
    for file in files {
        // Deleted but not committed yet.
        if !root.join(file).is_file() {
            continue;
        }
        let text = fs::read_to_string(root.join(file))
            .with_context(|| format!("read {}", file.display()))?;
        documents.insert(file.clone(), Document::read(&text));
    }
    let mut broken = Vec::new();
    for (file, document) in &documents {
        for (line, target) in &document.links {
            if let Err(why) = follow(root, file, target, &documents) {
                broken.push(format!("{}:{line}: {target}: {why}", file.display()));
            }
        }
    }
    Ok(broken)
}

fn follow(
    root: &Path,
    from: &Path,
    target: &str,
    documents: &BTreeMap<PathBuf, Document>,
) -> Result<(), String> {
    // Another site. `mailto:` too has no path.
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (path, anchor) = target
        .split_once('#')
        .map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() {
        from.to_owned()
    } else {
        let below = from.parent().unwrap_or(Path::new("")).join(path);
        let file = normal(&below).ok_or("leads out of the repository")?;
        if !root.join(&file).exists() {
            return Err(format!("there is no {}", file.display()));
        }
        file
    };
    match (anchor, documents.get(&file)) {
        // A line of a source file, `#L12`.
        (None, _) | (Some(_), None) => Ok(()),
        (Some(anchor), Some(document)) if document.anchors.contains(anchor) => Ok(()),
        (Some(_), Some(_)) => Err(format!("{} has no such heading", file.display())),
    }
}

/// A path without `.` and `..`; `None` if it leaves the directory it is relative to.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !normal.pop() {
                    return None;
                }
            }
            Component::Normal(name) => normal.push(name),
            Component::Prefix(_) | Component::RootDir => return None,
        }
    }
    Some(normal)
}

/// The links and anchors of a Markdown file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Document {
    /// Line and target of each link and image.
    links: Vec<(usize, String)>,
    /// Its possible anchors.
    anchors: BTreeSet<String>,
}

impl Document {
    fn read(text: &str) -> Self {
        let mut document = Self::default();
        let mut seen = BTreeMap::new();
        let mut fence = None;
        for (index, line) in text.lines().enumerate() {
            let start = line.trim_start();
            let mark = ["```", "~~~"]
                .into_iter()
                .find(|mark| start.starts_with(mark));
            match (fence, mark) {
                (None, Some(_)) => {
                    fence = mark;
                    continue;
                }
                (Some(_), _) => {
                    if fence == mark {
                        fence = None;
                    }
                    continue;
                }
                (None, None) => {}
            }
            if let Some(heading) = heading(line) {
                let slug = slug(heading);
                let times = seen.entry(slug.clone()).or_insert(0_u32);
                document.anchors.insert(match *times {
                    0 => slug,
                    n => format!("{slug}-{n}"),
                });
                *times += 1;
            }
            let line = without_code(line);
            document.anchors.extend(attributes(&line, "id"));
            let links = targets(&line)
                .chain(attributes(&line, "href"))
                .chain(attributes(&line, "src"));
            document
                .links
                .extend(links.map(|target| (index + 1, target)));
        }
        document
    }
}

/// The text of `## Heading`.
fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    (1..=6)
        .contains(&level)
        .then(|| text.strip_prefix(' '))
        .flatten()
}

/// The anchor that GitHub makes of a heading.
fn slug(heading: &str) -> String {
    // A link in a heading counts by its text.
    let mut text = heading.trim().to_owned();
    while let Some((open, close)) = text.find("](").and_then(|at| {
        let end = at + text.get(at..)?.find(')')?;
        Some((at, end))
    }) {
        text.replace_range(open..=close, "");
    }
    text.to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// The line without its `code`.
fn without_code(line: &str) -> String {
    // Every second part is between backticks, if they are paired.
    let parts: Vec<_> = line.split('`').collect();
    if parts.len() % 2 == 0 {
        return line.to_owned();
    }
    parts.into_iter().step_by(2).collect()
}

/// Targets of `[text](target)` and `[name]: target`.
fn targets(line: &str) -> impl Iterator<Item = String> {
    let inline = line
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next());
    let reference = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "))
        .and_then(|(_, rest)| rest.split_whitespace().next());
    inline
        .chain(reference)
        .map(|target| target.trim_matches(['<', '>']).to_owned())
}

/// Values of an HTML attribute.
fn attributes(line: &str, name: &str) -> impl Iterator<Item = String> {
    let start = format!(" {name}=\"");
    let values = line
        .split(&start)
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    values.map(str::to_owned).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken_of(files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let files: Vec<_> = files.iter().map(|(name, _)| PathBuf::from(name)).collect();
        broken(dir.path(), &files).unwrap()
    }

    #[test]
    fn what_leads_somewhere_is_right() {
        let a = "# A `b` — c\n[x](docs/b.md) [y](docs/b.md#two-words) [z](#a-b--c)\n\
                 [r]: docs/b.md#two-words-1\n<a href=\"docs/\">\n[site](https://example.com/x#y)\n\
                 `[code](nowhere)`\n```\n[fenced](nowhere)\n```\n";
        let b = "## Two words\n### Two words\n[up](../a.md)\n<a id=\"own\"></a> [own](#own)\n";
        assert_eq!(broken_of(&[("a.md", a), ("docs/b.md", b)]), [""; 0]);
    }

    #[test]
    fn what_leads_nowhere_is_named_with_its_place() {
        let a = "# A\n\n[x](gone.md) [y](#b)\n[z](b.md#c) [out](../b.md)\n![i](i.png)\n";
        assert_eq!(
            broken_of(&[("a.md", a), ("b.md", "# B\n")]),
            [
                "a.md:3: gone.md: there is no gone.md",
                "a.md:3: #b: a.md has no such heading",
                "a.md:4: b.md#c: b.md has no such heading",
                "a.md:4: ../b.md: leads out of the repository",
                "a.md:5: i.png: there is no i.png",
            ]
        );
    }
}
