//! `cargo xtask image`: the container image, without a container engine.
//!
//! The image holds one static binary and its bill of materials: no shell, no libraries, no package
//! manager (`layer.rs`). It is written as one archive for one platform (`docker.rs`), or as a
//! layout of files for several (`layout.rs`). The same sources give the same digest: files have no
//! time and no owner, and the binary contains no path of this machine.

mod docker;
mod layer;
mod layout;
mod materials;

use std::{ffi::OsString, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{arch::Arch, process, remap, setup, workspace::Workspace};
use layer::Image;

/// Arguments of `cargo xtask image`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An archive for docker is loaded by
    docker load < FILE            or    ctr --namespace k8s.io images import FILE
and a layout is pushed, for all its platforms, by
    crane push DIRECTORY REGISTRY/statlink:TAG
    skopeo copy --all oci:DIRECTORY:TAG docker://REGISTRY/statlink:TAG")]
pub(crate) struct Options {
    /// The output: a file for docker, a directory for a layout
    #[arg(long, value_name = "PATH")]
    output: PathBuf,
    /// Platforms, separated by commas: linux/amd64, linux/arm64; this machine's by default
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',', value_parser = Arch::of_platform)]
    platform: Vec<Arch>,
    /// The format; by default docker for one platform, and oci for several
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Name and tag of the image
    #[arg(long, value_name = "NAME:TAG", default_value = "statlink:dev", value_parser = tag)]
    tag: String,
}

/// A way to write an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The archive of `docker save`
    Docker,
    /// An image layout of the Open Container Initiative, with an index of its platforms
    Oci,
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    let mut platforms = options.platform.clone();
    if platforms.is_empty() {
        platforms.push(Arch::native()?);
    }
    platforms.sort_unstable();
    platforms.dedup();
    let format = format(options.format, platforms.len())?;
    setup::ensure(setup::BUILD, workspace)?;
    for arch in &platforms {
        setup::ensure(arch.needs()?, workspace)?;
    }
    let images = platforms.iter().map(|arch| image(*arch, workspace));
    let images = images.collect::<Result<Vec<_>>>()?;
    let id = match format {
        Format::Docker => {
            let [image] = &images[..] else {
                bail!("an archive for docker is of one platform");
            };
            docker::write(image, &options.tag, &options.output)
        }
        Format::Oci => layout::write(&images, &options.tag, &options.output),
    };
    let id = id.with_context(|| format!("write {}", options.output.display()))?;
    let sizes: Vec<_> = images
        .iter()
        .map(|image| format!("{} {:.1} MB", image.arch, megabytes(image.layer.len())))
        .collect();
    println!(
        "{} {id} ({}) in {}",
        options.tag,
        sizes.join(", "),
        options.output.display()
    );
    Ok(())
}

/// The image for the tests.
pub(crate) fn for_tests(workspace: &Workspace) -> Result<PathBuf> {
    let output = workspace.target.join("statlink.tar");
    let options = Options {
        output,
        platform: Vec::new(),
        format: Some(Format::Docker),
        tag: "statlink:dev".to_owned(),
    };
    run(&options, workspace)?;
    Ok(options.output)
}

fn format(asked: Option<Format>, platforms: usize) -> Result<Format> {
    let format = asked.unwrap_or(if platforms == 1 {
        Format::Docker
    } else {
        Format::Oci
    });
    ensure!(
        format == Format::Oci || platforms == 1,
        "an archive for docker is of one platform: --format oci holds {platforms}"
    );
    Ok(format)
}

/// The image of one platform.
fn image(arch: Arch, workspace: &Workspace) -> Result<Image> {
    let binary = build(arch, workspace)?;
    let binary = fs::read(&binary).with_context(|| format!("read {}", binary.display()))?;
    inspect(&binary, arch, workspace)?;
    let materials = materials::of_agent(arch, workspace)?;
    let image = Image::new(arch, &binary, &materials)?;
    let size = image.layer.len();
    ensure!(
        size <= LARGEST,
        "the image for {arch} is {:.1} MB, more than {:.1}: look at what grew with cargo bloat",
        megabytes(size),
        megabytes(LARGEST)
    );
    Ok(image)
}

/// Builds the agent as one static program that contains no path of this machine.
fn build(arch: Arch, workspace: &Workspace) -> Result<PathBuf> {
    let target = workspace.target.join("image");
    let mut cargo =
        workspace.cargo(&["build", "--locked", "--package=statlink", "--profile=image"]);
    arch.target(&mut cargo)?;
    cargo
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace))
        // The caller's flags could contain the directory of the sources.
        .env_remove("RUSTFLAGS");
    process::run(&format!("build the image's program for {arch}"), &mut cargo)?;
    Ok(target.join(arch.triple()).join("image/statlink"))
}

/// Checks the image's program: it needs no other file, and contains no path of the build machine.
fn inspect(binary: &[u8], arch: Arch, workspace: &Workspace) -> Result<()> {
    let linker = match arch {
        Arch::Amd64 => "/lib64/ld-linux-x86-64.so.2",
        Arch::Arm64 => "/lib/ld-linux-aarch64.so.1",
    };
    ensure!(
        !contains(binary, linker.as_bytes()),
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
    // The last match wins: the target directory may be inside the workspace.
    for (place, name) in remap::places(&workspace.root).into_iter().chain([target]) {
        flags.push("\u{1f}--remap-path-prefix=");
        flags.push(place);
        flags.push("=");
        flags.push(name);
    }
    flags
}

/// A JSON object with one more member.
fn with(mut object: Value, key: &str, value: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.insert(key.to_owned(), value);
    }
    object
}

/// The digest by which images name their parts.
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

/// The promise is 15 MB.
const LARGEST: usize = 15_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_platforms_are_a_layout() {
        assert_eq!(format(None, 1).unwrap(), Format::Docker);
        assert_eq!(format(None, 2).unwrap(), Format::Oci);
        assert_eq!(format(Some(Format::Oci), 1).unwrap(), Format::Oci);
        assert!(format(Some(Format::Docker), 2).is_err());
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
