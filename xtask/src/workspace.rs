//! Paths: the workspace, its target directory, and the tools installed into it.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process;

/// The directories that every command uses.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The workspace's root.
    pub(crate) root: PathBuf,
    /// Cargo's target directory, wherever configuration or environment put it.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// The workspace in which this program was compiled.
    pub(crate) fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest
            .parent()
            .with_context(|| format!("{} has no parent", manifest.display()))?
            .to_owned();
        let metadata = process::capture(cargo().current_dir(&root).args([
            "metadata",
            "--no-deps",
            "--format-version=1",
        ]))?;
        let metadata: serde_json::Value =
            serde_json::from_str(&metadata).context("read the output of cargo metadata")?;
        let target = metadata
            .get("target_directory")
            .and_then(serde_json::Value::as_str)
            .context("cargo metadata names no target_directory")?
            .into();
        Ok(Self { root, target })
    }

    /// Programs for this workspace, in the versions that it requires.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Programs of [`Workspace::tools`].
    pub(crate) fn tools_bin(&self) -> PathBuf {
        self.tools().join("bin")
    }

    /// Programs from Python wheels, in the versions that this workspace requires.
    pub(crate) fn wheels(&self) -> PathBuf {
        self.tools().join("wheels")
    }

    /// Programs of [`Workspace::wheels`].
    pub(crate) fn wheels_bin(&self) -> PathBuf {
        self.wheels().join("bin")
    }

    /// Waits until no other run holds this name, and holds it until the file is dropped. Names are of the
    /// target directory: runs that share one share what is in it.
    pub(crate) fn alone(&self, name: &str) -> Result<File> {
        let path = self.target.join(format!("{name}.lock"));
        fs::create_dir_all(&self.target)
            .with_context(|| format!("create {}", self.target.display()))?;
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        file.lock()
            .with_context(|| format!("lock {}", path.display()))?;
        Ok(file)
    }

    /// Cargo, in the workspace's root.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo = cargo();
        cargo.current_dir(&self.root).args(arguments);
        cargo
    }
}

/// The cargo that runs this program, so that one toolchain builds everything. The variables that
/// cargo set for this program are removed: build scripts that read them would run again each time.
fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let of_itself = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in of_itself
        .filter(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    {
        cargo.env_remove(name);
    }
    cargo
}
