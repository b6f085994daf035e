//! `cargo xtask lint`: formatting, lints, licences. Every check runs, then the failed are named.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    bpf::{self, Compiler, Core},
    process, setup,
    workspace::Workspace,
};

/// Arguments of `cargo xtask lint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

pub(crate) fn run(Options {}: &Options, workspace: &Workspace) -> Result<()> {
    setup::ensure(setup::LINT, workspace)?;
    let mut failed = Vec::new();
    let mut check = |name: String, result: Result<()>| {
        if let Err(error) = result {
            eprintln!("error: {name}: {error:#}");
            failed.push(name);
        }
    };

    let mut cargo = |name: &str, arguments: &[&str]| {
        check(
            name.to_owned(),
            process::run(name, &mut workspace.cargo(arguments)),
        );
    };
    cargo("rustfmt", &["fmt", "--all", "--check"]);
    cargo(
        "clippy",
        &[
            "clippy",
            "--locked",
            "--workspace",
            // Its binary is for the kernel; its library follows.
            "--exclude=statlink-ebpf",
            "--all-targets",
            "--",
            "--deny=warnings",
        ],
    );
    cargo(
        "clippy of what crosses the boundary",
        &[
            "clippy",
            "--locked",
            "--package=statlink-ebpf",
            "--lib",
            "--features=user",
            "--",
            "--deny=warnings",
        ],
    );
    check("kernel half".to_owned(), kernel_half(workspace));
    check("cargo-deny".to_owned(), cargo_deny(workspace));
    for module in go_modules(&workspace.root.join("tests/go"))? {
        check(format!("gofmt {}", module.display()), gofmt(&module));
        if !module.ends_with(KUBERNETES) {
            check(format!("go vet {}", module.display()), go_vet(&module));
        }
    }

    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    println!("lint: ok");
    Ok(())
}

/// Warnings of the programs for the kernel. By rustc, not clippy: no clippy-driver comes with a
/// compiler that has the BPF target's `core`, and another version's cannot read that.
fn kernel_half(workspace: &Workspace) -> Result<()> {
    let compiler = Compiler::find()
        .ok()
        .context("no compiler for the kernel half; run `cargo xtask setup`")?;
    let check = [
        "check",
        "--locked",
        "--package=statlink-ebpf",
        "--bins",
        "--features=programs",
        "--target",
        bpf::TARGET,
    ];
    let mut cargo = match &compiler.core {
        Core::Prebuilt => {
            let mut cargo = workspace.cargo(&check);
            cargo
                .env("CARGO_BUILD_RUSTC", &compiler.rustc)
                .env("RUSTC_BOOTSTRAP", bpf::UNSTABLE);
            cargo
        }
        Core::Source(toolchain) => {
            let mut rustup = Command::new("rustup");
            rustup
                .current_dir(&workspace.root)
                .args(["run", toolchain, "cargo"])
                .args(check)
                .args(["-Z", "build-std=core"]);
            rustup
        }
    };
    cargo
        // Two compilers in one directory would undo each other's work.
        .arg("--target-dir")
        .arg(workspace.target.join("lint-kernel-half"))
        .env("RUSTFLAGS", "--deny=warnings");
    process::run("warnings of the kernel half", &mut cargo)
}

/// Without `advisories`: those change by the day, and with them what passed before.
fn cargo_deny(workspace: &Workspace) -> Result<()> {
    let mut deny = Command::new(workspace.tools_bin().join("cargo-deny"));
    deny.current_dir(&workspace.root)
        .args(["--workspace", "--all-features", "--locked"])
        .args(["check", "licenses", "bans", "sources"]);
    process::run("licences, bans and sources", &mut deny)
}

fn gofmt(module: &Path) -> Result<()> {
    let mut gofmt = Command::new("gofmt");
    gofmt.current_dir(module).args(["-l", "."]);
    process::announce("gofmt", &gofmt);
    let unformatted = process::capture(&mut gofmt)?;
    ensure!(
        unformatted.is_empty(),
        "in {}, run gofmt -w on: {}",
        module.display(),
        unformatted.trim().replace('\n', " ")
    );
    Ok(())
}

fn go_vet(module: &Path) -> Result<()> {
    process::run(
        "go vet",
        Command::new("go")
            .current_dir(module)
            // As the test bed builds it: what one of the two has compiled serves both.
            .env("CGO_ENABLED", "0")
            .args(["vet", "-trimpath", "./..."]),
    )
}

/// The directories right below `dir` that are Go modules with code of their own: some only say
/// which programs of others are built.
fn go_modules(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut modules = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.join("go.mod").is_file() && has_go_files(&path)? {
            modules.push(path);
        }
    }
    modules.sort();
    Ok(modules)
}

fn has_go_files(dir: &Path) -> Result<bool> {
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        if entry?.path().extension().is_some_and(|end| end == "go") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sixty lines that the compiler checks. To vet them, all of Kubernetes is looked through first:
/// five minutes.
const KUBERNETES: &str = "kubernetes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_modules_with_code_are_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(go_modules(&dir.path().join("absent")).unwrap().is_empty());
        for (name, file) in [
            ("knative", "go.mod"),
            ("knative", "main.go"),
            ("coredns", "go.mod"),
            ("collector", "builder.yaml"),
        ] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join(file), "").unwrap();
        }
        assert_eq!(
            go_modules(dir.path()).unwrap(),
            [dir.path().join("knative")]
        );
    }
}
