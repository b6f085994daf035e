//! An image in the format of `docker save`: `docker load`, `podman load` and `ctr images import`
//! accept it.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::Result;
use serde_json::json;
use tar::Builder;

use super::{
    digest,
    layer::{self, Image},
};

/// Writes the archive, and returns the image's id.
pub(super) fn write(image: &Image, tag: &str, to: &Path) -> Result<String> {
    let id = digest(&image.config);
    let config = format!("{id}.json");
    let layer = format!("{}/layer.tar", digest(&image.layer));
    let manifest = json!([{ "Config": config, "RepoTags": [tag], "Layers": [layer] }]);
    let mut archive = Builder::new(BufWriter::new(File::create(to)?));
    layer::file(&mut archive, &config, 0o644, &image.config)?;
    layer::file(&mut archive, &layer, 0o644, &image.layer)?;
    let manifest = serde_json::to_vec(&manifest)?;
    layer::file(&mut archive, "manifest.json", 0o644, &manifest)?;
    archive.into_inner()?.flush()?;
    Ok(format!("sha256:{id}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::arch::Arch;

    #[test]
    fn an_archive_is_what_engines_load() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("image.tar");
        let image = Image::new(Arch::Amd64, b"program", b"materials").unwrap();
        let id = write(&image, "statlink:test", &file).unwrap();
        let entries = layer::entries(&fs::read(&file).unwrap());
        let data = |path: &str| &entries.iter().find(|entry| entry.0 == path).unwrap().3;
        let manifest: serde_json::Value = serde_json::from_slice(data("manifest.json")).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "statlink:test");
        let config = data(manifest[0]["Config"].as_str().unwrap());
        let layer = data(manifest[0]["Layers"][0].as_str().unwrap());
        assert_eq!(id, format!("sha256:{}", digest(config)));
        let config: serde_json::Value = serde_json::from_slice(config).unwrap();
        let diff = config["rootfs"]["diff_ids"][0].as_str().unwrap();
        assert_eq!(diff, format!("sha256:{}", digest(layer)));
    }
}
