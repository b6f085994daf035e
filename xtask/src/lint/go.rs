//! gofmt and go vet, for each Go module with its own code.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{process, workspace::Workspace};

/// Sixty lines that the compiler checks. `go vet` would analyze all of Kubernetes first: five
/// minutes.
const KUBERNETES: &str = "kubernetes";

pub(super) fn check(fix: bool, workspace: &Workspace) -> Result<()> {
    let modules = modules(&workspace.root.join("tests/go"))?;
    ensure!(!modules.is_empty(), "there is no Go module in tests/go");
    // Check every module, even after a failure.
    let results: Vec<_> = modules
        .iter()
        .flat_map(|module| {
            let vet = !module.ends_with(KUBERNETES);
            [
                gofmt(module, fix),
                if vet { go_vet(module) } else { Ok(()) },
            ]
        })
        .collect();
    let failures: Vec<_> = results
        .into_iter()
        .filter_map(|result| Some(format!("{:#}", result.err()?)))
        .collect();
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

fn gofmt(module: &Path, fix: bool) -> Result<()> {
    let mut gofmt = Command::new("gofmt");
    gofmt.current_dir(module).args(["-l", "."]);
    if fix {
        gofmt.arg("-w");
    }
    process::announce("gofmt", &gofmt);
    let unformatted = process::capture(&mut gofmt)?;
    ensure!(
        fix || unformatted.is_empty(),
        "in {}, run gofmt -w on: {}",
        module.display(),
        unformatted.trim().replace('\n', " ")
    );
    Ok(())
}

fn go_vet(module: &Path) -> Result<()> {
    process::run(
        &format!("go vet in {}", module.display()),
        Command::new("go")
            .current_dir(module)
            // With the test bed's settings, so that both share compiled packages.
            .env("CGO_ENABLED", "0")
            .args(["vet", "-trimpath", "./..."]),
    )
}

/// The Go modules directly below `dir` that have their own code: others only name programs to
/// build.
fn modules(dir: &Path) -> Result<Vec<PathBuf>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_modules_with_code_are_found() {
        let dir = tempfile::tempdir().unwrap();
        for (name, file) in [
            ("knative", "go.mod"),
            ("knative", "main.go"),
            ("coredns", "go.mod"),
            ("collector", "builder.yaml"),
        ] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join(file), "").unwrap();
        }
        assert_eq!(modules(dir.path()).unwrap(), [dir.path().join("knative")]);
    }
}
