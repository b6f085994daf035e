//! Checks of what we deploy, by other projects' programs: dashboards by Grafana and Perses, the
//! plugin by krew, objects by the Prometheus operator.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{
    files::{copy, listed},
    go::{STRIPPED, go_sources, module},
};

/// krew's programs.
#[derive(Clone, Debug)]
pub struct Krew {
    /// Installs plugins.
    pub krew: PathBuf,
    /// Checks manifests of plugins.
    pub validate: PathBuf,
}

/// Reads dashboards by Grafana's own schema.
pub fn dashboard_schema() -> Result<PathBuf> {
    let programs = [("dashboards", ".")];
    let home = module("dashboards", STRIPPED, &programs, |_| Ok(()))?;
    Ok(home.join("dashboards"))
}

/// Reads dashboards by Perses' own model.
pub fn perses_model() -> Result<PathBuf> {
    let programs = [("perses", ".")];
    let home = module("perses", STRIPPED, &programs, |_| Ok(()))?;
    Ok(home.join("perses"))
}

/// krew, and its check of manifests.
pub fn krew() -> Result<Krew> {
    let programs = [
        ("krew", "sigs.k8s.io/krew/cmd/krew"),
        (
            "validate-krew-manifest",
            "sigs.k8s.io/krew/cmd/validate-krew-manifest",
        ),
    ];
    let home = module("krew", STRIPPED, &programs, |_| Ok(()))?;
    Ok(Krew {
        krew: home.join("krew"),
        validate: home.join("validate-krew-manifest"),
    })
}

/// The directory of the Prometheus operator's CustomResourceDefinitions, a file each.
pub fn operator_definitions() -> Result<PathBuf> {
    const OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator";
    let home = module("prometheus-operator", &[], &[], |to| {
        let module = go_sources().join("prometheus-operator");
        let mut download = Command::new("go");
        download
            .args(["mod", "download", OPERATOR])
            .current_dir(&module);
        crate::netns::run(&mut download)?;
        let mut list = Command::new("go");
        list.args(["list", "-m", "-f", "{{.Dir}}", OPERATOR])
            .current_dir(&module);
        let path = crate::netns::run(&mut list)?;
        let definitions = Path::new(path.trim()).join("example/prometheus-operator-crd");
        copy(&listed(&definitions)?, to)
    })?;
    Ok(home)
}
