//! The kernel modules that a guest needs, in the order in which they are loaded.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// The needs of the bed: pods' wires, faults, weather, and `ss --kill`. A module that a kernel has
/// built in, or lacks, has no file.
pub(super) const WANTED: &[&str] = &[
    // nf_tables needs it through the kernel's crypto API, which `depends` does not show.
    "crc32c_generic",
    "veth",
    "bridge",
    "nf_tables",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "nft_ct",
    "nft_chain_nat",
    "nft_redir",
    "nft_counter",
    "nft_numgen",
    "nft_limit",
    "tcp_diag",
    "sch_netem",
];

/// Copies the wanted modules of `lib/modules/RELEASE`, uncompressed, each after those that it
/// depends on.
pub(super) fn keep(release: &Path, to: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    find(&release.join("kernel"), &mut files)?;
    let mut order = Vec::new();
    for name in WANTED {
        add(name, &files, &mut order)?;
    }
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for (number, (name, data)) in order.iter().enumerate() {
        let path = to.join(format!("{number:03}-{name}"));
        fs::write(&path, data).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The modules that [`keep`] copied, in its order.
pub(super) fn read(from: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let entries = fs::read_dir(from).with_context(|| format!("list {}", from.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    let modules = paths.iter().map(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (_, name) = name.split_once('-').unwrap_or_default();
        let data = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok((name.to_owned(), data))
    });
    modules.collect()
}

fn add(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    if order.iter().any(|(there, _)| there == name) {
        return Ok(());
    }
    let Some(path) = files.get(name) else {
        return Ok(());
    };
    let data = uncompressed(path)?;
    for needed in depends(&data) {
        add(&needed, files, order)?;
    }
    order.push((name.to_owned(), data));
    Ok(())
}

/// Module names have underscores, and files may have hyphens.
fn find(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("list {}", directory.display()))?
            .path();
        if path.is_dir() {
            find(&path, files)?;
        } else if let Some((name, _)) = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.split_once(".ko"))
        {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn uncompressed(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|end| end == "xz") {
        let output = Command::new("xz")
            .args(["--decompress", "--stdout"])
            .arg(path)
            .output();
        let output = output.with_context(|| format!("uncompress {}", path.display()))?;
        ensure!(output.status.success(), "xz cannot read {}", path.display());
        return Ok(output.stdout);
    }
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// `depends=a,b` of the section `.modinfo`, whose entries end with a zero byte.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module.get(at + KEY.len()..).unwrap_or_default();
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_needs() {
        let module = b"\x7fELF\0license=GPL\0depends=nf-conntrack,nf_tables\0name=x\0";
        assert_eq!(depends(module), ["nf_conntrack", "nf_tables"]);
        assert!(depends(b"license=GPL\0depends=\0name=x\0").is_empty());
        assert!(depends(b"no module").is_empty());
    }
}
