//! `cargo xtask chart`: copies the rules and the dashboards into the chart, which can read no files
//! outside of it. A test of `tests/deploy` fails while the copies differ.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

/// The source directory, the files, and the directory in the chart.
const COPIES: [(&str, &str, &str); 2] = [
    ("deploy/prometheus/rules", "yaml", "rules"),
    ("deploy/grafana", "json", "dashboards"),
];

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let files = workspace.root.join("deploy/helm/statlink/files");
    for (from, extension, to) in COPIES {
        let to = files.join(to);
        // Renamed or removed files must not stay.
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
