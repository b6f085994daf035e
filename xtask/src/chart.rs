//! `cargo xtask chart`: copies into the chart what it can only read there, the rules and the dashboards.
//! A test of `tests/deploy` fails while they differ.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// From where, which files, and to where in the chart.
const COPIES: [(&str, &str, &str); 2] = [
    ("deploy/prometheus/rules", "yaml", "rules"),
    ("deploy/grafana", "json", "dashboards"),
];

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let files = workspace.root.join("deploy/helm/statlink/files");
    for (from, extension, to) in COPIES {
        let to = files.join(to);
        // What was renamed or removed must not stay.
        if to.exists() {
            fs::remove_dir_all(&to).with_context(|| format!("remove {}", to.display()))?;
        }
        fs::create_dir_all(&to).with_context(|| format!("create {}", to.display()))?;
        copy(&workspace.root.join(from), extension, &to)?;
    }
    Ok(())
}

fn copy(from: &Path, extension: &str, to: &Path) -> Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("list {}", from.display()))?;
    for entry in entries {
        let path = entry?.path();
        if let Some(name) = path.file_name()
            && path.extension().is_some_and(|end| end == extension)
        {
            fs::copy(&path, to.join(name)).with_context(|| format!("copy {}", path.display()))?;
            println!("{}", to.join(name).display());
        }
    }
    Ok(())
}
