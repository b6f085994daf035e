//! `cargo xtask image`: the container image, without a container engine.
//!
//! The archive has the shape of `docker save`: `docker load`, `podman load` and
//! `ctr images import` take it. It holds one static binary and nothing else: no shell, no
//! libraries, no package manager. The same sources give the same digest: files have no time and
//! no owner, and the binary holds no path of this machine.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::{process, remap, setup, workspace::Workspace};

/// Arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Load it: docker load < FILE, or ctr --namespace k8s.io images import FILE.

The image is linux/amd64. There is no arm64 image yet: \
it takes the target aarch64-unknown-linux-gnu and a cross linker. The kernel half is the same for both.")]
pub(crate) struct Options {
    /// Where to write the archive
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Name and tag of the image
    #[arg(long, value_name = "NAME:TAG", default_value = "statlink:dev", value_parser = tag)]
    tag: String,
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    ensure!(
        env::consts::ARCH == "x86_64",
        "images are linux/amd64 today, and this is {}",
        env::consts::ARCH
    );
    setup::ensure(setup::BUILD, workspace)?;
    let binary = build(workspace)?;
    let binary = fs::read(&binary).with_context(|| format!("read {}", binary.display()))?;
    inspect(&binary, workspace)?;
    let layer = layer(&binary)?;
    let size = layer.len();
    ensure!(
        size <= LARGEST,
        "the image is {:.1} MB, more than {:.1}: look at what grew with cargo bloat",
        megabytes(size),
        megabytes(LARGEST)
    );
    let image = Image::new(&options.tag, layer)?;
    image
        .write(&options.output)
        .with_context(|| format!("write {}", options.output.display()))?;
    println!(
        "{} {} ({:.1} MB) in {}",
        options.tag,
        image.id(),
        megabytes(size),
        options.output.display()
    );
    Ok(())
}

/// The image as the tests load it.
pub(crate) fn for_tests(workspace: &Workspace) -> Result<PathBuf> {
    let output = workspace.target.join("statlink.tar");
    let tag = "statlink:dev".to_owned();
    let options = Options { output, tag };
    run(&options, workspace)?;
    Ok(options.output)
}

/// Builds the agent as one static program that holds no path of this machine.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let target = workspace.target.join("image");
    let mut cargo = workspace.cargo(&[
        "build",
        "--locked",
        "--package=statlink",
        "--profile=image",
        "--target",
        TRIPLE,
        "--target-dir",
    ]);
    cargo
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace))
        // The caller's flags could name the directory of the sources.
        .env_remove("RUSTFLAGS");
    process::run("build the image's program", &mut cargo)?;
    Ok(target.join(TRIPLE).join("image/statlink"))
}

/// What the image promises of its program: it needs no other file, and names no path of the
/// machine that built it.
fn inspect(binary: &[u8], workspace: &Workspace) -> Result<()> {
    ensure!(
        !contains(binary, b"/lib64/ld-linux"),
        "the program needs a dynamic linker, and the image has none"
    );
    for (place, _) in remap::places(&workspace.root) {
        let text = place.display().to_string();
        ensure!(
            !contains(binary, text.as_bytes()),
            "the program holds the path {text} of this machine: add it to those that are remapped"
        );
    }
    Ok(())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn flags(workspace: &Workspace) -> OsString {
    let mut flags = OsString::from("-Ctarget-feature=+crt-static");
    let target = (workspace.target.clone(), "/target");
    // The last that matches wins: the target directory may be inside the workspace.
    for (place, name) in remap::places(&workspace.root).into_iter().chain([target]) {
        flags.push("\u{1f}--remap-path-prefix=");
        flags.push(place);
        flags.push("=");
        flags.push(name);
    }
    flags
}

/// The file system of the image.
fn layer(binary: &[u8]) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    entry(&mut layer, "statlink", 0o755, binary)?;
    // For the control socket's volume, and for temporary files.
    for directory in ["run/", "run/statlink/", "tmp/"] {
        let mut header = header(EntryType::Directory, 0o755, 0);
        layer.append_data(&mut header, directory, &[][..])?;
    }
    Ok(layer.into_inner()?)
}

/// An image of one layer.
struct Image {
    tag: String,
    layer: Vec<u8>,
    config: Vec<u8>,
}

impl Image {
    fn new(tag: &str, layer: Vec<u8>) -> Result<Self> {
        let version = env!("CARGO_PKG_VERSION");
        let config = json!({
            "architecture": "amd64",
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
                    "org.opencontainers.image.version": version,
                },
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask image" }],
        });
        Ok(Self {
            tag: tag.to_owned(),
            layer,
            config: serde_json::to_vec(&config)?,
        })
    }

    /// The image's id: the digest of its configuration, which names the digest of its layer.
    fn id(&self) -> String {
        format!("sha256:{}", digest(&self.config))
    }

    fn write(&self, to: &Path) -> Result<()> {
        let config = format!("{}.json", digest(&self.config));
        let layer = format!("{}/layer.tar", digest(&self.layer));
        let manifest = json!([{ "Config": config, "RepoTags": [self.tag], "Layers": [layer] }]);
        let mut archive = Builder::new(BufWriter::new(File::create(to)?));
        entry(&mut archive, &config, 0o644, &self.config)?;
        entry(&mut archive, &layer, 0o644, &self.layer)?;
        let manifest = serde_json::to_vec(&manifest)?;
        entry(&mut archive, "manifest.json", 0o644, &manifest)?;
        archive.into_inner()?.flush()?;
        Ok(())
    }
}

fn entry<W: std::io::Write>(
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

fn digest(data: &[u8]) -> String {
    let digest = Sha256::digest(data);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn tag(value: &str) -> Result<String, &'static str> {
    match value.rsplit_once(':') {
        Some((name, tag)) if !name.is_empty() && !tag.is_empty() && !tag.contains('/') => {
            Ok(value.to_owned())
        }
        Some(_) | None => Err("expected a name and a tag, such as statlink:dev"),
    }
}

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// The promise is 15 MB.
const LARGEST: usize = 15_000_000;

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn entries(archive: &[u8]) -> Vec<(String, u32, u64, Vec<u8>)> {
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

    #[test]
    fn an_archive_is_what_engines_load() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("image.tar");
        let image = Image::new("statlink:test", layer(b"program").unwrap()).unwrap();
        image.write(&file).unwrap();
        let entries = entries(&fs::read(&file).unwrap());
        let data = |path: &str| &entries.iter().find(|entry| entry.0 == path).unwrap().3;
        let manifest: serde_json::Value = serde_json::from_slice(data("manifest.json")).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "statlink:test");
        let config = data(manifest[0]["Config"].as_str().unwrap());
        let layer = data(manifest[0]["Layers"][0].as_str().unwrap());
        assert_eq!(image.id(), format!("sha256:{}", digest(config)));
        let config: serde_json::Value = serde_json::from_slice(config).unwrap();
        let diff = config["rootfs"]["diff_ids"][0].as_str().unwrap();
        assert_eq!(diff, format!("sha256:{}", digest(layer)));
    }

    #[test]
    fn the_layer_holds_the_program_alone_and_nothing_of_this_machine() {
        let layer = layer(b"program").unwrap();
        let files: Vec<_> = entries(&layer)
            .into_iter()
            .filter(|(.., data)| !data.is_empty())
            .collect();
        assert_eq!(
            files,
            [("statlink".to_owned(), 0o755, 0, b"program".to_vec())]
        );
        assert!(entries(&layer).iter().all(|(_, _, time, _)| *time == 0));
    }

    #[test]
    fn the_same_program_gives_the_same_image() {
        let id = |program: &[u8]| Image::new("a:b", layer(program).unwrap()).unwrap().id();
        assert_eq!(id(b"program"), id(b"program"));
        assert_ne!(id(b"program"), id(b"another"));
    }

    #[test]
    fn a_tag_has_a_name_and_a_tag() {
        for good in ["statlink:dev", "registry:5000/a/statlink:1"] {
            assert_eq!(tag(good).as_deref(), Ok(good));
        }
        for bad in ["statlink", "statlink:", ":dev", "registry:5000/statlink"] {
            assert!(tag(bad).is_err(), "{bad}");
        }
    }
}
