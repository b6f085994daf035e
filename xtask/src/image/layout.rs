//! Images as a layout of the Open Container Initiative, with an index of their platforms: `crane`
//! and `skopeo` push it unchanged.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use super::{digest, layer::Image, with};

/// Writes the layout, and returns the digest of the index.
pub(super) fn write(images: &[Image], tag: &str, to: &Path) -> Result<String> {
    clear(to)?;
    let blobs = Blobs {
        directory: to.join("blobs/sha256"),
    };
    fs::create_dir_all(&blobs.directory)?;
    let manifests = images.iter().map(|image| {
        let platform = json!({ "architecture": image.arch.debian(), "os": "linux" });
        Ok(with(blobs.image(image)?, "platform", platform))
    });
    let manifests = manifests.collect::<Result<Vec<_>>>()?;
    // One index for all platforms, so that one reference reaches each.
    let all = to_bytes(&index(&manifests))?;
    let id = format!("sha256:{}", digest(&all));
    let all = blobs.write(INDEX, &all)?;
    // `skopeo` knows an image of the layout by the part after the name.
    let name = tag.rsplit_once(':').map_or(tag, |(_, tag)| tag);
    let name = json!({ "org.opencontainers.image.ref.name": name });
    let top = index(&[with(all, "annotations", name)]);
    fs::write(to.join("index.json"), to_bytes(&top)?)?;
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    // Written last: it marks the layout as complete.
    fs::write(to.join(MARK), to_bytes(&version)?)?;
    Ok(id)
}

/// Removes an older layout, and refuses to remove anything else.
fn clear(to: &Path) -> Result<()> {
    if !to.try_exists()? {
        return Ok(());
    }
    let mut entries = fs::read_dir(to)?;
    ensure!(
        to.join(MARK).is_file() || entries.next().is_none(),
        "there is something else than an image layout"
    );
    fs::remove_dir_all(to).context("remove the older layout")
}

/// Files that are named by their content.
struct Blobs {
    directory: PathBuf,
}

impl Blobs {
    /// Writes one, and returns its descriptor.
    fn write(&self, kind: &str, data: &[u8]) -> Result<Value> {
        let digest = digest(data);
        fs::write(self.directory.join(&digest), data)?;
        let digest = format!("sha256:{digest}");
        Ok(json!({ "mediaType": kind, "digest": digest, "size": data.len() }))
    }

    fn image(&self, image: &Image) -> Result<Value> {
        let layer = self.write(LAYER, &compressed(&image.layer)?)?;
        let config = self.write(CONFIG, &image.config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
        });
        self.write(MANIFEST, &to_bytes(&manifest)?)
    }
}

fn index(manifests: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
}

fn to_bytes(value: &Value) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

/// Without a time and a file's name, which a gzip header may have.
fn compressed(data: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(data)?;
    Ok(encoder.finish()?)
}

/// The file that makes a directory a layout.
const MARK: &str = "oci-layout";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::arch::Arch;

    fn images() -> Vec<Image> {
        let image = |arch: &Arch| {
            let program = format!("program for {arch}");
            Image::new(*arch, program.as_bytes(), b"materials").unwrap()
        };
        Arch::ALL.iter().map(image).collect()
    }

    /// The content of a reference, after checking its digest and size.
    fn follow(layout: &Path, reference: &Value) -> Vec<u8> {
        let digest_of_it = reference["digest"].as_str().unwrap();
        let digest_of_it = digest_of_it.strip_prefix("sha256:").unwrap();
        let data = fs::read(layout.join("blobs/sha256").join(digest_of_it)).unwrap();
        assert_eq!(digest(&data), digest_of_it);
        assert_eq!(reference["size"], data.len());
        data
    }

    fn parse(data: &[u8]) -> Value {
        serde_json::from_slice(data).unwrap()
    }

    #[test]
    fn the_index_leads_to_the_program_of_each_platform() {
        let directory = tempfile::tempdir().unwrap();
        let layout = directory.path().join("layout");
        let id = write(&images(), "registry:5000/a/statlink:1.2", &layout).unwrap();
        let top = parse(&fs::read(layout.join("index.json")).unwrap());
        let top = &top["manifests"][0];
        assert_eq!(top["digest"], id);
        assert_eq!(
            top["annotations"]["org.opencontainers.image.ref.name"],
            "1.2"
        );
        let index = parse(&follow(&layout, top));
        let manifests = index["manifests"].as_array().unwrap();
        assert_eq!(manifests.len(), Arch::ALL.len());
        for (reference, arch) in manifests.iter().zip(Arch::ALL) {
            assert_eq!(reference["platform"]["architecture"], arch.debian());
            let manifest = parse(&follow(&layout, reference));
            let config = parse(&follow(&layout, &manifest["config"]));
            assert_eq!(config["architecture"], arch.debian());
            let layer = follow(&layout, &manifest["layers"][0]);
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&layer[..])
                .read_to_end(&mut plain)
                .unwrap();
            let diff = config["rootfs"]["diff_ids"][0].as_str().unwrap();
            assert_eq!(diff, format!("sha256:{}", digest(&plain)));
            let program = format!("program for {arch}");
            assert!(super::super::contains(&plain, program.as_bytes()));
        }
    }

    #[test]
    fn two_directories_get_the_same_files() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
        let id = write(&images(), "a:b", &one).unwrap();
        // Over an older layout, of which nothing stays.
        write(&images()[..1], "a:b", &two).unwrap();
        assert_eq!(write(&images(), "a:b", &two).unwrap(), id);
        let files = |layout: &Path| {
            let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap();
            let mut blobs: Vec<_> = blobs.map(|entry| entry.unwrap().file_name()).collect();
            blobs.sort();
            (blobs, fs::read(layout.join("index.json")).unwrap())
        };
        assert_eq!(files(&one), files(&two));
    }

    #[test]
    fn what_is_no_layout_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("precious"), "").unwrap();
        assert!(write(&images(), "a:b", directory.path()).is_err());
        assert!(directory.path().join("precious").is_file());
    }
}
