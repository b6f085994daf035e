//! Knative's own programs, with the manifests that come with them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    files::{listed, read},
    go::{STRIPPED, go_sources, module},
};

/// Knative's own activator and autoscaler, and their manifests.
#[derive(Clone, Debug)]
pub struct Serving {
    /// The activator.
    pub activator: PathBuf,
    /// The autoscaler.
    pub autoscaler: PathBuf,
    /// The directory of their manifests: `definitions.yaml`, `configuration.yaml` and
    /// `deployments.yaml`, to apply in this order.
    pub manifests: PathBuf,
}

/// Knative's activator and autoscaler with their manifests, from one version of the module.
pub fn serving() -> Result<Serving> {
    let programs = [
        ("activator", "knative.dev/serving/cmd/activator"),
        ("autoscaler", "knative.dev/serving/cmd/autoscaler"),
    ];
    let home = module("serving", STRIPPED, &programs, manifests)?;
    Ok(Serving {
        activator: home.join("activator"),
        autoscaler: home.join("autoscaler"),
        manifests: home,
    })
}

/// Collects Knative's manifests that the link needs, in the order in which to apply them.
fn manifests(to: &Path) -> Result<()> {
    let module = go_sources().join("serving");
    let directory = |of: &str| {
        let mut list = Command::new("go");
        list.args(["list", "-m", "-f", "{{.Dir}}", of])
            .current_dir(&module);
        let path = crate::netns::run(&mut list)?;
        Ok::<_, anyhow::Error>(PathBuf::from(path.trim()))
    };
    let serving = directory("knative.dev/serving")?.join("config/core");
    let networking = directory("knative.dev/networking")?.join("config");
    let deployments = serving.join("deployments");
    for (name, sources) in [
        (
            "definitions.yaml",
            vec![
                serving.join("100-namespace.yaml"),
                serving.join("300-resources"),
                networking,
            ],
        ),
        (
            "configuration.yaml",
            vec![
                serving.join("200-serviceaccount.yaml"),
                serving.join("200-roles"),
                serving.join("configmaps"),
            ],
        ),
        (
            "deployments.yaml",
            vec![
                deployments.join("activator.yaml"),
                deployments.join("autoscaler.yaml"),
            ],
        ),
    ] {
        let mut text = String::new();
        for file in yaml(&sources)? {
            text.push_str("---\n");
            text.push_str(&read(&file)?);
            text.push('\n');
        }
        let path = to.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// These YAML files, and those in these directories.
fn yaml(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut inside = listed(path)?;
            inside.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}
