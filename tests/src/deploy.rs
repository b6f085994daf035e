//! The chart and the Kustomize base, rendered by the real Helm and Kustomize.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    build::{RuleTools, Tools, rule_tools, tools},
    netns,
};

/// The chart's directory.
pub fn chart() -> PathBuf {
    directory().join("helm/statlink")
}

/// The chart's example values, a file each.
pub fn examples() -> Result<Vec<PathBuf>> {
    let directory = chart().join("ci");
    let files = std::fs::read_dir(&directory)
        .with_context(|| format!("list {}", directory.display()))?
        .map(|file| Ok(file?.path()))
        .collect::<Result<Vec<_>>>()?;
    ensure!(!files.is_empty(), "{} is empty", directory.display());
    Ok(files)
}

/// Runs Helm on the chart.
pub fn helm(arguments: &[&str]) -> Result<Output> {
    let Tools { helm, .. } = tools()?;
    let output = Command::new(helm).args(arguments).arg(chart()).output();
    output.context("run Helm")
}

/// What Kustomize builds from a directory below `deploy/kustomize`.
pub fn kustomize(name: &str) -> Result<String> {
    let Tools { kustomize, .. } = tools()?;
    let path = directory().join("kustomize").join(name);
    netns::run(Command::new(kustomize).arg("build").arg(path))
}

/// promtool, in the directory of Prometheus' files.
pub fn promtool(arguments: &[&str]) -> Result<Output> {
    let RuleTools { promtool, .. } = rule_tools()?;
    let mut promtool = Command::new(promtool);
    let output = promtool.args(arguments).current_dir(prometheus()).output();
    output.context("run promtool")
}

/// pint, in the same directory.
pub fn pint(arguments: &[&str]) -> Result<Output> {
    let RuleTools { pint, .. } = rule_tools()?;
    let mut pint = Command::new(pint);
    let output = pint.args(arguments).current_dir(prometheus()).output();
    output.context("run pint")
}

/// sloth, in the same directory.
pub fn sloth(arguments: &[&str]) -> Result<Output> {
    let RuleTools { sloth, .. } = rule_tools()?;
    let mut sloth = Command::new(sloth);
    let output = sloth.args(arguments).current_dir(prometheus()).output();
    output.context("run sloth")
}

/// The directory of Prometheus' files.
pub fn prometheus() -> PathBuf {
    directory().join("prometheus")
}

/// The directory of everything for operators.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}
