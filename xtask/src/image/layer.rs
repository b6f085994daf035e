//! The content of an image: its one layer, and its configuration.

use anyhow::Result;
use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::digest;
use crate::arch::Arch;

/// An image of one layer, for one platform.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) arch: Arch,
    /// A tar archive.
    pub(super) layer: Vec<u8>,
    /// JSON. Its digest is the image's id, because it contains the digest of the layer.
    pub(super) config: Vec<u8>,
}

impl Image {
    pub(super) fn new(arch: Arch, program: &[u8], materials: &[u8]) -> Result<Self> {
        let layer = layer(program, materials)?;
        let config = json!({
            "architecture": arch.debian(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "User": "0:0",
                "Entrypoint": ["/statlink"],
                "Cmd": ["run"],
                "Labels": {
                    "org.opencontainers.image.title": "statlink",
                    "org.opencontainers.image.description":
                        "Says from the kernel whether each Knative activator is connected to the autoscaler, and why not",
                    "org.opencontainers.image.licenses": "Apache-2.0",
                    "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
                    "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                },
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask image" }],
        });
        Ok(Self {
            arch,
            layer,
            config: serde_json::to_vec(&config)?,
        })
    }
}

/// The file system of the image.
fn layer(program: &[u8], materials: &[u8]) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    file(&mut layer, "statlink", 0o755, program)?;
    // Scanners of images look for files with this ending.
    file(&mut layer, "statlink.cdx.json", 0o644, materials)?;
    // For the control socket's volume, and for temporary files.
    for directory in ["run/", "run/statlink/", "tmp/"] {
        let mut header = header(EntryType::Directory, 0o755, 0);
        layer.append_data(&mut header, directory, &[][..])?;
    }
    Ok(layer.into_inner()?)
}

/// Adds a file owned by root to an archive.
pub(super) fn file<W: std::io::Write>(
    archive: &mut Builder<W>,
    path: &str,
    mode: u32,
    data: &[u8],
) -> Result<()> {
    let mut header = header(EntryType::Regular, mode, data.len() as u64);
    Ok(archive.append_data(&mut header, path, data)?)
}

/// Owned by root, and without a time.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

/// The entries of an archive: path, mode, time, content.
#[cfg(test)]
pub(super) fn entries(archive: &[u8]) -> Vec<(String, u32, u64, Vec<u8>)> {
    use std::io::Read as _;

    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        let header = entry.header();
        let path = entry.path().unwrap().display().to_string();
        (path, header.mode().unwrap(), header.mtime().unwrap(), data)
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_holds_the_program_and_its_materials_and_nothing_of_this_machine() {
        let layer = layer(b"program", b"materials").unwrap();
        let files: Vec<_> = entries(&layer)
            .into_iter()
            .filter(|(.., data)| !data.is_empty())
            .collect();
        assert_eq!(
            files,
            [
                ("statlink".to_owned(), 0o755, 0, b"program".to_vec()),
                (
                    "statlink.cdx.json".to_owned(),
                    0o644,
                    0,
                    b"materials".to_vec()
                ),
            ]
        );
        assert!(entries(&layer).iter().all(|(_, _, time, _)| *time == 0));
    }

    #[test]
    fn the_same_program_gives_the_same_image() {
        let config = |arch, program: &[u8]| Image::new(arch, program, b"").unwrap().config;
        let of = |program| config(Arch::Amd64, program);
        assert_eq!(of(b"program"), of(b"program"));
        assert_ne!(of(b"program"), of(b"another"));
        assert_ne!(of(b"program"), config(Arch::Arm64, b"program"));
    }
}
