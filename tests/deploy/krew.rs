//! The manifest of the plugin for krew: valid by krew's own check, and an archive of the shape that it names is
//! installed as `kubectl statlink`.

use std::{fs, path::Path, process::Command};

use statlink_tests::{build, deploy, netns};
use tempfile::TempDir;

/// An archive as a release has it, and its digest.
fn archive(directory: &Path) -> (String, String) {
    let license = Path::new(env!("CARGO_MANIFEST_DIR")).join("../LICENSE");
    fs::write(directory.join("statlink"), "a static binary").unwrap();
    fs::copy(license, directory.join("LICENSE")).unwrap();
    let archive = directory.join("archive.tar.gz");
    let mut tar = Command::new("tar");
    tar.arg("--create")
        .arg("--gzip")
        .arg("--file")
        .arg(&archive);
    tar.arg("--directory")
        .arg(directory)
        .args(["statlink", "LICENSE"]);
    netns::run(&mut tar).unwrap();
    let sums = netns::run(Command::new("sha256sum").arg(&archive)).unwrap();
    let digest = sums.split_whitespace().next().unwrap().to_owned();
    (archive.display().to_string(), digest)
}

/// The manifest of a release: with its tag, and the digest of its archives.
fn manifest(directory: &Path, digest: &str) -> String {
    let template = deploy::directory().join("krew/statlink.yaml");
    let text = fs::read_to_string(template).unwrap();
    let text = text
        .replace("TAG", concat!("v", env!("CARGO_PKG_VERSION")))
        .replace("SHA256_LINUX_AMD64", digest)
        .replace("SHA256_LINUX_ARM64", digest);
    let path = directory.join("statlink.yaml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn krew_takes_the_manifest_and_installs_what_it_names() {
    let build::Krew { krew, validate } = build::krew().unwrap();
    let directory = TempDir::new().unwrap();
    let (archive, digest) = archive(directory.path());
    let manifest = manifest(directory.path(), &digest);
    let mut check = Command::new(validate);
    check.args(["-skip-install", "-manifest", &manifest]);
    netns::run(&mut check).unwrap();
    for architecture in ["amd64", "arm64"] {
        let root = directory.path().join(architecture);
        let mut install = Command::new(&krew);
        install
            .args(["install", "--manifest", &manifest, "--archive", &archive])
            .env("KREW_ROOT", &root)
            .env("KREW_OS", "linux")
            .env("KREW_ARCH", architecture)
            .env("KREW_NO_UPGRADE_CHECK", "1");
        netns::run(&mut install).unwrap();
        let plugin = fs::read_to_string(root.join("bin/kubectl-statlink")).unwrap();
        assert_eq!(plugin, "a static binary", "{architecture}");
    }
}
