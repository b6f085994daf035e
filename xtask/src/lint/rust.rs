//! The checks of Rust code by cargo and its companions.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Result, ensure};

use crate::{process, workspace::Workspace};

/// Everything that the link crate may depend on, directly or not: serde with its derive, and the
/// types that come from the kernel. No runtime, no clock, no log, no kernel, no network.
const LINK_MAY_USE: &[&str] = &[
    "proc-macro2",
    "quote",
    "serde",
    "serde_core",
    "serde_derive",
    "statlink-ebpf",
    "statlink-link",
    "syn",
    "unicode-ident",
];

pub(super) fn format(fix: bool, workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo(&["fmt", "--all"]);
    if !fix {
        cargo.arg("--check");
    }
    process::run("rustfmt", &mut cargo)
}

/// The crate's own `clippy.toml` bans the standard library's clocks; this bans those of other
/// crates.
pub(super) fn purity(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo(&[
        "tree",
        "--locked",
        "--package=statlink-link",
        "--edges=normal,build",
        "--prefix=none",
    ]);
    process::announce("dependencies of the link crate", &cargo);
    let tree = process::capture(&mut cargo)?;
    let unexpected = unexpected(&tree);
    ensure!(
        unexpected.is_empty(),
        "statlink-link depends on {}; it may use only {}",
        unexpected.join(", "),
        LINK_MAY_USE.join(", ")
    );
    Ok(())
}

/// The crates in the output of `cargo tree` that the link crate may not use.
fn unexpected(tree: &str) -> Vec<&str> {
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let unexpected: BTreeSet<_> = names
        .filter(|name| !name.is_empty() && !LINK_MAY_USE.contains(name))
        .collect();
    unexpected.into_iter().collect()
}

pub(super) fn clippy(workspace: &Workspace) -> Result<()> {
    process::run(
        "clippy",
        &mut workspace.cargo(&[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "--deny=warnings",
        ]),
    )
}

/// Checks the programs as code for this machine, because clippy does not come with the compiler for
/// their target. That compiler has read them already, for the agent that the other checks build.
pub(super) fn kernel(workspace: &Workspace) -> Result<()> {
    process::run(
        "clippy of the kernel half",
        &mut workspace.cargo(&[
            "clippy",
            "--locked",
            "--package=statlink-ebpf",
            "--bins",
            "--features=programs",
            "--",
            "--deny=warnings",
        ]),
    )
}

pub(super) fn rustdoc(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo(&[
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    process::run("rustdoc", cargo.env("RUSTDOCFLAGS", "--deny=warnings"))
}

/// Without `advisories`: a new one would fail an unrelated change. A scheduled job checks those.
pub(super) fn deny(workspace: &Workspace) -> Result<()> {
    let mut deny = Command::new(workspace.tools_bin().join("cargo-deny"));
    deny.current_dir(&workspace.root)
        .args(["--workspace", "--all-features", "--locked"])
        .args(["check", "licenses", "bans", "sources"]);
    process::run("licences, bans and sources", &mut deny)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_the_link_crate_may_not_have_is_named() {
        let tree = "statlink-link v0.1.0 (/statlink/agent/link)\n\
                    serde v1.0.228\n\
                    tokio v1.48.0\n\
                    tokio v1.48.0 (*)\n\
                    serde v1.0.228 (*)\n";
        assert_eq!(unexpected(tree), ["tokio"]);
    }
}
