//! Modules import in one direction: without a circle, and only from upper to lower layers. This
//! check also writes the picture in `agent/docs/architecture.md`, which must be current.

mod graph;
mod layers;
mod source;

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::block::{self, Block};
use crate::{process, workspace::Workspace};
use graph::Graph;
use layers::{CRATES, Crate};
use source::{Imports, Name, Source};

const DOCUMENT: &str = "agent/docs/architecture.md";

pub(super) fn check(fix: bool, workspace: &Workspace) -> Result<()> {
    eprintln!("── modules: imports of {} crates", CRATES.len());
    let mut faults = Vec::new();
    let mut drawn = Vec::new();
    for of in CRATES {
        let source = Source::read(&workspace.root.join(of.lib))?;
        let imports = source.imports();
        faults.extend(circles(&imports, &workspace.root));
        faults.extend(circles_of_siblings(&imports));
        faults.extend(against_layers(of, &source, &imports, &workspace.root));
        drawn.push((of, Graph::new(tops(&imports))));
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));

    let picture = Block {
        document: DOCUMENT,
        name: "modules".to_owned(),
        text: picture(&drawn, &dependencies(workspace)?),
    };
    block::settle(&[picture], "modules", fix, &workspace.root)
}

/// Files that import each other, directly or not. A parent and its child must share code through a
/// third file.
fn circles(imports: &Imports, root: &Path) -> Vec<String> {
    let circles = Graph::new(imports.keys().cloned()).circles();
    let describe = |circle: Vec<Name>| {
        let mut text = "modules import from each other in a circle:".to_owned();
        for ((from, to), place) in imports {
            if circle.contains(from) && circle.contains(to) {
                let file = place.file.strip_prefix(root).unwrap_or(&place.file);
                let _ = write!(text, "\n  {} -> {}", title(from), title(to));
                let _ = write!(text, "  {}:{}", file.display(), place.line);
            }
        }
        text
    };
    circles.into_iter().map(describe).collect()
}

/// Sibling modules that import each other, with everything below them, although no two files do.
fn circles_of_siblings(imports: &Imports) -> Vec<String> {
    let parents: BTreeSet<&[String]> = imports
        .keys()
        .flat_map(|(from, to)| [from, to])
        .flat_map(|name| (0..name.len()).filter_map(|length| name.get(..length)))
        .collect();
    let below = |parent: &[String], name: &Name| name.strip_prefix(parent)?.first().cloned();
    let mut faults = Vec::new();
    for parent in parents {
        let siblings = imports.keys().filter_map(|(from, to)| {
            let (from, to) = (below(parent, from)?, below(parent, to)?);
            (from != to).then_some((from, to))
        });
        for circle in Graph::new(siblings).circles() {
            faults.push(format!(
                "in {}, modules import from each other in a circle: {}",
                title(parent),
                circle.join(", ")
            ));
        }
    }
    faults
}

/// Imports that do not go down, and modules without a layer.
fn against_layers(of: &Crate, source: &Source, imports: &Imports, root: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let modules: BTreeSet<_> = source.modules().filter_map(|name| name.first()).collect();
    let declared: BTreeSet<_> = of.layers.iter().copied().flatten().copied().collect();
    for module in &modules {
        if !declared.contains(module.as_str()) {
            faults.push(format!("{}: {module} has no layer: see {LAYERS}", of.name));
        }
    }
    for name in declared {
        if !modules.iter().any(|module| *module == name) {
            faults.push(format!("{}: there is no {name}: see {LAYERS}", of.name));
        }
    }
    let mut upward = BTreeSet::new();
    for ((from, to), place) in imports {
        let (Some(from), Some(to)) = (from.first(), to.first()) else {
            continue;
        };
        let (Some(upper), Some(lower)) = (of.layer(from), of.layer(to)) else {
            continue;
        };
        if from != to && upper >= lower && upward.insert((from, to)) {
            let file = place.file.strip_prefix(root).unwrap_or(&place.file);
            faults.push(format!(
                "{}:{}: {from} imports from {to}, which is not in a layer below: see {LAYERS}",
                file.display(),
                place.line
            ));
        }
    }
    faults
}

/// The imports between the modules directly below the crate's root.
fn tops(imports: &Imports) -> BTreeSet<(String, String)> {
    let tops = imports.keys().filter_map(|(from, to)| {
        let (from, to) = (from.first()?, to.first()?);
        (from != to).then(|| (from.clone(), to.clone()))
    });
    tops.collect()
}

/// The dependencies between the workspace's crates, by the names of their packages.
fn dependencies(workspace: &Workspace) -> Result<Vec<(String, String)>> {
    let mut cargo = workspace.cargo(&["metadata", "--locked", "--no-deps", "--format-version=1"]);
    let metadata: serde_json::Value = serde_json::from_str(&process::capture(&mut cargo)?)
        .context("read the output of cargo metadata")?;
    let list = |value: &serde_json::Value, key: &str| {
        let values = value.get(key).and_then(serde_json::Value::as_array);
        values.cloned().unwrap_or_default()
    };
    let text = |value: &serde_json::Value, key: &str| {
        let text = value.get(key).and_then(serde_json::Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let mut arrows = Vec::new();
    for package in list(&metadata, "packages") {
        for dependency in list(&package, "dependencies") {
            if dependency.get("path").is_some_and(|path| !path.is_null()) {
                arrows.push((text(&package, "name"), text(&dependency, "name")));
            }
        }
    }
    Ok(Graph::new(arrows).reduced())
}

/// The diagram of all crates, those of [`CRATES`] with their modules.
fn picture(crates: &[(&Crate, Graph<String>)], dependencies: &[(String, String)]) -> String {
    let mut text = "```mermaid\nflowchart TD\n".to_owned();
    for (of, graph) in crates {
        let _ = writeln!(text, "  subgraph {}", of.name);
        for (from, to) in graph.reduced() {
            let id = |module: &str| format!("{}.{module}[{module}]", of.name);
            let _ = writeln!(text, "    {} --> {}", id(&from), id(&to));
        }
        text.push_str("  end\n");
    }
    for (from, to) in dependencies {
        let _ = writeln!(text, "  {from} --> {to}");
    }
    text.push_str("```\n");
    text
}

/// A module as people write it.
fn title(name: &[String]) -> String {
    if name.is_empty() {
        "lib".to_owned()
    } else {
        name.join("::")
    }
}

const LAYERS: &str = "xtask/src/lint/modules/layers.rs";

#[cfg(test)]
mod tests {
    use super::*;
    use source::Place;

    fn imports(arrows: &[(&str, &str)]) -> Imports {
        let name = |text: &str| text.split("::").map(str::to_owned).collect::<Name>();
        let place = |(from, to): &(&str, &str)| {
            let file = Path::new("src").join(from);
            ((name(from), name(to)), Place { file, line: 1 })
        };
        arrows.iter().map(place).collect()
    }

    #[test]
    fn a_circle_is_told_with_its_imports() {
        let found = circles(
            &imports(&[("a", "b::c"), ("b::c", "a"), ("a", "d")]),
            Path::new("src"),
        );
        assert_eq!(
            found,
            ["modules import from each other in a circle:\n  a -> b::c  a:1\n  b::c -> a  b::c:1"]
        );
    }

    #[test]
    fn siblings_are_in_a_circle_when_their_children_are() {
        let crossed = imports(&[("p::a::x", "p::b::y"), ("p::b::z", "p::a::w")]);
        assert!(circles(&crossed, Path::new("")).is_empty());
        assert_eq!(
            circles_of_siblings(&crossed),
            ["in p, modules import from each other in a circle: a, b"]
        );
    }
}
