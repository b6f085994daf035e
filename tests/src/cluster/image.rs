//! Container images of one static program each, made without a container engine.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::netns::run;

/// Writes an image of `program` into `directory`, in Docker's format; returns the archive.
pub(super) fn archive(directory: &Path, name: &str, program: &Path) -> Result<PathBuf> {
    let work = directory.join(name);
    let root = work.join("root");
    fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
    let file = program.file_name().context("a program has a name")?;
    let entry = root.join(file);
    fs::copy(program, &entry)
        .with_context(|| format!("copy {} to {}", program.display(), entry.display()))?;

    let layer = work.join("layer.tar");
    tar(&layer, &root, &[file])?;
    let sum = run(Command::new("sha256sum").arg(&layer))?;
    let sum = sum.split(' ').next().context("sha256sum says nothing")?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        // A number: the kubelet cannot check whether a user's name is root.
        "config": { "User": "65532:65532", "Entrypoint": [Path::new("/").join(file)] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": [reference(name)],
        "Layers": ["layer.tar"],
    }]);
    for (file, content) in [("config.json", config), ("manifest.json", manifest)] {
        let path = work.join(file);
        fs::write(&path, content.to_string())
            .with_context(|| format!("write {}", path.display()))?;
    }
    let archive = directory.join(format!("{name}.tar"));
    tar(
        &archive,
        &work,
        &["manifest.json", "config.json", "layer.tar"].map(OsStr::new),
    )?;
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    Ok(archive)
}

/// The reference of a program's image in pods. Not `latest`, which would be pulled.
pub(super) fn reference(name: &str) -> String {
    format!("docker.io/library/{name}:testbed")
}

fn tar(to: &Path, from: &Path, names: &[&OsStr]) -> Result<()> {
    run(Command::new("tar")
        .args(["--owner=0", "--group=0", "-cf"])
        .arg(to)
        .arg("-C")
        .arg(from)
        .args(names))
    .map(drop)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
