//! The bill of materials of an image: every crate in its program, in the CycloneDX format, which
//! image scanners read.
//!
//! <https://cyclonedx.org/docs/1.5/json/>

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::with;
use crate::{arch::Arch, bpf, process, workspace::Workspace};

/// The crates in the agent for this architecture, its kernel half included.
pub(super) fn of_agent(arch: Arch, workspace: &Workspace) -> Result<Vec<u8>> {
    let path = workspace.root.join("Cargo.lock");
    let lock = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut materials = Materials {
        checksums: checksums(&lock),
        crates: BTreeMap::new(),
    };
    let halves = [
        ("agent/Cargo.toml", "statlink", "", arch.triple()),
        (
            "agent-ebpf/Cargo.toml",
            "statlink-ebpf",
            "programs",
            bpf::TARGET,
        ),
    ];
    for (manifest, name, features, target) in halves {
        let mut cargo = workspace.cargo(&["metadata", "--locked", "--format-version=1"]);
        cargo.args(["--manifest-path", manifest, "--features", features]);
        cargo.args(["--filter-platform", target]);
        let metadata = process::capture(&mut cargo)?;
        let metadata = serde_json::from_str(&metadata).context("read cargo's metadata")?;
        materials.add(name, &metadata)?;
    }
    materials.document("statlink")
}

/// The crates so far, by their reference.
struct Materials {
    checksums: BTreeMap<(String, String), String>,
    crates: BTreeMap<String, Material>,
}

/// A crate, and its direct dependencies.
struct Material {
    component: Value,
    needs: BTreeSet<String>,
}

impl Materials {
    /// Adds the crate of this name, and all crates that are linked with it, without build and test
    /// dependencies.
    fn add(&mut self, name: &str, metadata: &Value) -> Result<()> {
        let packages = by_id(metadata.get("packages"));
        let nodes = by_id(metadata.pointer("/resolve/nodes"));
        let begin = packages
            .iter()
            .find(|(_, package)| text(package, "name") == name);
        let (begin, _) = begin.with_context(|| format!("cargo knows no crate {name}"))?;
        let mut open = vec![*begin];
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let package = packages.get(id).with_context(|| format!("no crate {id}"))?;
            let dependencies: Vec<_> = linked(nodes.get(id).copied()).collect();
            let needs = dependencies
                .iter()
                .filter_map(|id| packages.get(id).map(|package| reference(package)));
            let needs = needs.collect::<BTreeSet<_>>();
            let reference = reference(package);
            let material = self.crates.entry(reference).or_insert_with(|| Material {
                component: component(package, &self.checksums),
                needs: BTreeSet::new(),
            });
            material.needs.extend(needs);
            open.extend(dependencies);
        }
        Ok(())
    }

    /// The whole bill of the crate of this name.
    fn document(&self, name: &str) -> Result<Vec<u8>> {
        let of_name = |material: &&Material| text(&material.component, "name") == name;
        let whole = self.crates.values().find(of_name);
        let whole = whole.with_context(|| format!("no crate {name}"))?;
        let program = with(whole.component.clone(), "type", json!("application"));
        let parts: Vec<_> = self
            .crates
            .values()
            .filter(|material| !of_name(material))
            .map(|material| &material.component)
            .collect();
        ensure!(!parts.is_empty(), "{name} is made of nothing");
        let dependencies: Vec<_> = self
            .crates
            .iter()
            .map(|(reference, material)| json!({ "ref": reference, "dependsOn": material.needs }))
            .collect();
        // Without a time and a serial number: the same sources give the same image.
        let document = json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": { "component": program },
            "components": parts,
            "dependencies": dependencies,
        });
        Ok(serde_json::to_vec(&document)?)
    }
}

fn component(package: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let (name, version) = (text(package, "name"), text(package, "version"));
    let reference = reference(package);
    let mut component = json!({
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "purl": reference,
    });
    let licence = text(package, "license");
    if !licence.is_empty() {
        // The older form of licences, before there were expressions.
        let expression = licence.replace('/', " OR ").replace("  OR  ", " OR ");
        let licences = json!([{ "expression": expression }]);
        component = with(component, "licenses", licences);
    }
    if let Some(checksum) = checksums.get(&(name.to_owned(), version.to_owned())) {
        let hashes = json!([{ "alg": "SHA-256", "content": checksum }]);
        component = with(component, "hashes", hashes);
    }
    component
}

/// A crate's name by <https://github.com/package-url/purl-spec>.
fn reference(package: &Value) -> String {
    format!(
        "pkg:cargo/{}@{}",
        text(package, "name"),
        text(package, "version").replace('+', "%2B")
    )
}

/// The linked dependencies: their kind is `null`.
fn linked(node: Option<&Value>) -> impl Iterator<Item = &str> {
    let dependencies = node
        .and_then(|node| node.get("deps"))
        .and_then(Value::as_array);
    let linked = dependencies.into_iter().flatten().filter(|dependency| {
        let kinds = dependency.get("dep_kinds").and_then(Value::as_array);
        let mut kinds = kinds.into_iter().flatten();
        kinds.any(|kind| kind.get("kind").is_some_and(Value::is_null))
    });
    linked.map(|dependency| text(dependency, "pkg"))
}

fn by_id(list: Option<&Value>) -> BTreeMap<&str, &Value> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.map(|entry| (text(entry, "id"), entry)).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Name, version and checksum of each package from a registry in Cargo.lock.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let packages = lock.split("[[package]]").skip(1).filter_map(|package| {
        let field = |name: &str| {
            let line = package
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            line.and_then(|value| value.strip_suffix('"'))
                .map(str::to_owned)
        };
        Some(((field("name")?, field("version")?), field("checksum")?))
    });
    packages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Value {
        let package = |name: &str, license: &str| json!({ "id": name, "name": name, "version": "1.0.0+x", "license": license });
        let on = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        json!({
            "packages": [
                package("statlink", "Apache-2.0"),
                package("linked", "MIT/Apache-2.0"),
                package("deep", "MIT"),
                package("tests", "MIT"),
                package("builds", "MIT"),
            ],
            "resolve": { "nodes": [
                { "id": "statlink", "deps": [
                    on("linked", Value::Null), on("tests", json!("dev")), on("builds", json!("build")),
                ] },
                { "id": "linked", "deps": [on("deep", Value::Null)] },
            ] },
        })
    }

    #[test]
    fn what_is_linked_is_listed_and_nothing_else() {
        let lock = "[[package]]\nname = \"deep\"\nversion = \"1.0.0+x\"\nchecksum = \"abc\"\n";
        let mut materials = Materials {
            checksums: checksums(lock),
            crates: BTreeMap::new(),
        };
        materials.add("statlink", &metadata()).unwrap();
        let document = materials.document("statlink").unwrap();
        let document: Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["metadata"]["component"]["name"], "statlink");
        let parts = document["components"].as_array().unwrap();
        let names: Vec<_> = parts.iter().map(|part| text(part, "name")).collect();
        assert_eq!(names, ["deep", "linked"]);
        assert_eq!(parts[0]["hashes"][0]["content"], "abc");
        assert_eq!(parts[0]["purl"], "pkg:cargo/deep@1.0.0%2Bx");
        assert_eq!(parts[1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let depends = &document["dependencies"][1];
        assert_eq!(depends["dependsOn"][0], "pkg:cargo/deep@1.0.0%2Bx");
    }

    #[test]
    fn both_halves_of_the_agent_are_listed() {
        let workspace = Workspace::find().unwrap();
        let document = of_agent(Arch::Amd64, &workspace).unwrap();
        assert_eq!(document, of_agent(Arch::Amd64, &workspace).unwrap());
        let document: Value = serde_json::from_slice(&document).unwrap();
        let parts = document["components"].as_array().unwrap();
        let names: BTreeSet<_> = parts.iter().map(|part| text(part, "name")).collect();
        for (name, listed) in [
            ("aya", true),
            ("aya-ebpf", true),
            ("statlink-link", true),
            ("aya-build", false),
            ("proptest", false),
        ] {
            assert_eq!(names.contains(name), listed, "{name}");
        }
    }
}
