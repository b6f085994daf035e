//! Lists in the documents that must name everything of a kind, so that new things are not
//! forgotten.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use super::Tree;

/// Everything of one kind, and where each must be named.
struct List {
    what: &'static str,
    names: BTreeSet<String>,
    /// Documents; with a heading, only the section below it counts.
    places: &'static [(&'static str, Option<&'static str>)],
}

pub(super) fn faults(tree: &Tree) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for List {
        what,
        names,
        places,
    } in lists(tree)?
    {
        anyhow::ensure!(!names.is_empty(), "no {what} was found in the code");
        for (document, heading) in places {
            let text = tree.document(document)?;
            let text = match heading {
                Some(heading) => section(text, heading)
                    .with_context(|| format!("{document} has no {heading}"))?,
                None => text,
            };
            for name in names.iter().filter(|name| !names_it(text, name)) {
                let below = heading.map_or(String::new(), |heading| format!(", below {heading},"));
                faults.push(format!("{document}{below} does not name the {what} {name}"));
            }
        }
    }
    faults.extend(versions(tree)?);
    Ok(faults)
}

/// Places that must have the workspace's version, and have another one.
fn versions(tree: &Tree) -> Result<Vec<String>> {
    let version = tree
        .document("Cargo.toml")?
        .lines()
        .find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        .context("Cargo.toml has no version")?;
    let mut faults = Vec::new();
    for (document, before) in VERSIONS {
        for line in tree.document(document)?.lines() {
            let Some(stated) = line.trim().strip_prefix(before) else {
                continue;
            };
            if stated.trim_matches('"') != version {
                faults.push(format!("{document}: {line}: the version is {version}"));
            }
        }
    }
    Ok(faults)
}

/// Documents that contain the version, and the text before it.
const VERSIONS: &[(&str, &str)] = &[
    ("deploy/helm/statlink/Chart.yaml", "version: "),
    ("deploy/helm/statlink/Chart.yaml", "appVersion: "),
    (
        "deploy/kustomize/base/daemonset.yaml",
        "app.kubernetes.io/version: ",
    ),
    ("deploy/kustomize/base/daemonset.yaml", "image: \"statlink:"),
    (
        "deploy/semconv/manifest.yaml",
        "schema_url: https://github.com/statlink/statlink/semconv/",
    ),
];

fn lists(tree: &Tree) -> Result<Vec<List>> {
    let losses = &tree.source("agent-ebpf/src/wire/loss_reason.rs")?.text;
    let causes = &tree.source("agent/link/src/cause.rs")?.text;
    let hooks = &tree.source("agent/src/kernel/hooks.rs")?.text;
    Ok(vec![
        List {
            what: "reason for a loss",
            names: quoted_after(losses, "=> "),
            places: &[
                ("agent-ebpf/README.md", Some("## The maps")),
                ("deploy/runbooks/alerts.md", Some("## StatlinkRecordsLost")),
                ("deploy/docs/signals.md", None),
                ("deploy/semconv/attributes.yaml", None),
            ],
        },
        List {
            what: "cause",
            names: quoted_after(causes, " = "),
            places: &[
                ("agent/docs/decisions.md", Some("### Each cause")),
                ("deploy/docs/causes.md", None),
                ("deploy/runbooks/causes.md", None),
                ("deploy/semconv/attributes.yaml", None),
            ],
        },
        List {
            what: "hook",
            names: quoted_after(hooks, "name: "),
            places: &[("agent-ebpf/README.md", Some("## The programs"))],
        },
        List {
            what: "hook that may be missing",
            names: optional(hooks),
            places: &[("deploy/runbooks/alerts.md", Some("## StatlinkHookMissing"))],
        },
        List {
            what: "flag",
            names: flags(tree),
            places: &[("deploy/docs/configuration.md", None)],
        },
        List {
            what: "alert",
            names: alerts(tree),
            places: &[
                ("deploy/prometheus/README.md", None),
                ("deploy/runbooks/alerts.md", None),
            ],
        },
    ])
}

/// The quoted text right after `before`, in code that is no test.
fn quoted_after(text: &str, before: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let start = format!("{before}\"");
    code.split(start.as_str())
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect()
}

/// The names of optional hooks.
fn optional(hooks: &str) -> BTreeSet<String> {
    hooks
        .split("name: \"")
        .skip(1)
        .filter(|hook| hook.contains("Standing::Optional"))
        .filter_map(|hook| hook.split('"').next())
        .map(str::to_owned)
        .collect()
}

/// The flags that have a `STATLINK_` variable of the same name.
fn flags(tree: &Tree) -> BTreeSet<String> {
    tree.below("agent/src/cli")
        .flat_map(|(_, source)| &source.texts)
        .filter(|text| text.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .filter_map(|text| text.strip_prefix("STATLINK_"))
        .map(|name| format!("--{}", name.to_lowercase().replace('_', "-")))
        .collect()
}

fn alerts(tree: &Tree) -> BTreeSet<String> {
    tree.text
        .iter()
        .filter(|(file, _)| file.starts_with("deploy/prometheus/rules"))
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .map(str::to_owned)
        .collect()
}

/// The text below a heading, up to the next one of its level.
fn section<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    let level = heading.split(' ').next()?;
    let (_, below) = text.split_once(&format!("{heading}\n"))?;
    below.split(&format!("\n{level} ")).next()
}

/// Whether the text contains the name, and not only as a part of a longer one.
fn names_it(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-'))
        .any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_from_the_code_and_not_from_its_tests() {
        let code = "A = \"a\", B = \"b_c\",\n#[cfg(test)]\nmod tests { const C = \"c\"; }";
        assert_eq!(
            quoted_after(code, " = "),
            ["a", "b_c"].map(str::to_owned).into()
        );
        let hooks = "Hook { name: \"one\", standing: Standing::Required }, \
                     Hook { name: \"two\", standing: Standing::Optional { without: \"x\" } }";
        assert_eq!(optional(hooks), ["two".to_owned()].into());
    }

    #[test]
    fn a_version_that_was_left_behind_is_named() {
        let file = |path: &str, text: &str| (path.into(), text.to_owned());
        let tree = Tree {
            rust: Vec::new(),
            text: vec![
                file("Cargo.toml", "[workspace.package]\nversion = \"0.2.0\"\n"),
                file(
                    "deploy/helm/statlink/Chart.yaml",
                    "version: 0.2.0\nappVersion: 0.1.0\n",
                ),
                file(
                    "deploy/kustomize/base/daemonset.yaml",
                    "  image: \"statlink:0.2.0\"\n",
                ),
                file("deploy/semconv/manifest.yaml", ""),
            ],
        };
        assert_eq!(
            versions(&tree).unwrap(),
            ["deploy/helm/statlink/Chart.yaml: appVersion: 0.1.0: the version is 0.2.0"]
        );
    }

    #[test]
    fn a_section_ends_with_the_next_of_its_level() {
        let text = "# T\n## A\none\n### Sub\ntwo\n## B\nthree\n";
        assert_eq!(section(text, "## A"), Some("one\n### Sub\ntwo"));
        assert_eq!(section(text, "## C"), None);
        assert!(names_it("a `one_two`, b", "one_two"));
        assert!(!names_it("a `one_two`, b", "one"));
    }
}
