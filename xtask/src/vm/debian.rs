//! Debian packages that are fetched and unpacked, but not installed: a separate apt root in the
//! target directory.

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{kernels::Kernel, modules};
use crate::{arch::Arch, process, setup::DEBIAN_KEYRING};

/// An apt that knows the archives of [`SUITES`], and no installed packages.
#[derive(Debug)]
pub(super) struct Apt {
    root: PathBuf,
}

/// A kernel's files for a guest.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// The output of `uname --kernel-release`.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// In the order in which they are loaded.
    pub(super) modules: Vec<(String, Vec<u8>)>,
}

impl Apt {
    /// An apt in `root`; reads the archives' lists the first time, and again with `refresh`.
    pub(super) fn new(root: PathBuf, refresh: bool) -> Result<Self> {
        let apt = Self { root };
        let sources = apt.root.join("sources.list");
        let text = sources_list();
        if !refresh && fs::read_to_string(&sources).is_ok_and(|old| old == text) {
            return Ok(apt);
        }
        for directory in ["lists/partial", "cache/archives/partial"] {
            let directory = apt.root.join(directory);
            fs::create_dir_all(&directory)
                .with_context(|| format!("create {}", directory.display()))?;
        }
        for (file, text) in [("status", ""), ("list", text.as_str())] {
            let path = apt.root.join(file);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        process::run(
            "read the lists of Debian's packages",
            apt.command("apt-get")
                .args(["--quiet=2", "update", "-oDir::Etc::sourcelist="])
                .arg(format!(
                    "-oDir::Etc::sourcelist={}",
                    apt.root.join("list").display()
                )),
        )?;
        // Last: it marks the lists as complete.
        fs::rename(apt.root.join("list"), &sources).context("keep the list of sources")?;
        Ok(apt)
    }

    /// The newest kernel of the series.
    pub(super) fn kernel(&self, kernel: &Kernel) -> Result<Unpacked> {
        let release = self.newest(kernel)?;
        let home = self.root.join("kernels").join(&release);
        let wanted = modules::WANTED.join("\n");
        if !fs::read_to_string(home.join(WANTED)).is_ok_and(|kept| kept == wanted) {
            self.fetch(&release, kernel.arch, &home)?;
        }
        Ok(Unpacked {
            image: home.join(IMAGE),
            modules: modules::read(&home.join(MODULES))?,
            release,
        })
    }

    /// Keeps the parts of a kernel's packages that a guest needs: unpacked, all of them are 400 MB.
    fn fetch(&self, release: &str, arch: Arch, home: &Path) -> Result<()> {
        // Since 6.17 the image and the modules have packages of their own, and linux-image is empty.
        let split = ["binary", "modules", "base"].map(|part| format!("linux-{part}-{release}"));
        let packages = if self.knows(&split[0], arch)? {
            split.to_vec()
        } else {
            vec![format!("linux-image-{release}")]
        };
        let packages: Vec<_> = packages
            .iter()
            .map(|package| format!("{package}:{arch}"))
            .collect();
        let whole = home.with_extension("whole");
        self.unpack(&packages, &whole)?;
        let place = ["lib/modules", "usr/lib/modules"]
            .map(|place| whole.join(place).join(release))
            .into_iter()
            .find(|place| place.join("kernel").is_dir());
        let place = place.with_context(|| format!("no modules in {}", whole.display()))?;
        let images = [
            whole.join(format!("boot/vmlinuz-{release}")),
            whole.join(format!("usr/lib/modules/{release}/vmlinuz")),
        ];
        let image = images.into_iter().find(|path| path.is_file());
        let image = image.with_context(|| format!("no vmlinuz in {}", whole.display()))?;

        let work = home.with_extension("work");
        let _ = fs::remove_dir_all(&work);
        modules::keep(&place, &work.join(MODULES))?;
        fs::rename(&image, work.join(IMAGE)).context("keep the kernel's image")?;
        fs::write(work.join(WANTED), modules::WANTED.join("\n")).context("list the modules")?;
        // Left by a run that wanted other modules.
        let _ = fs::remove_dir_all(home);
        fs::rename(&work, home).context("keep the kernel")?;
        fs::remove_dir_all(&whole).with_context(|| format!("remove {}", whole.display()))
    }

    /// Unpacks these packages to `home`, unless they are there.
    pub(super) fn unpack(&self, packages: &[String], home: &Path) -> Result<()> {
        let done = home.join(".packages");
        let listed = packages.join("\n");
        if fs::read_to_string(&done).is_ok_and(|old| old == listed) {
            return Ok(());
        }
        // Left by an interrupted run or another list.
        let _ = fs::remove_dir_all(home);
        let archives = home.with_extension("debs");
        let _ = fs::remove_dir_all(&archives);
        fs::create_dir_all(&archives).with_context(|| format!("create {}", archives.display()))?;
        let mut download = self.command("apt-get");
        download
            .args(["--quiet=2", "download"])
            // apt would use another user, who cannot write here.
            .arg("-oAPT::Sandbox::User=root")
            .args(packages)
            .current_dir(&archives);
        process::run(&format!("fetch {}", packages.join(", ")), &mut download)?;
        for archive in fs::read_dir(&archives).context("list what was fetched")? {
            let archive = archive.context("list what was fetched")?.path();
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--extract").arg(&archive).arg(home);
            process::capture(&mut unpack)?;
        }
        fs::remove_dir_all(&archives).with_context(|| format!("remove {}", archives.display()))?;
        fs::write(&done, listed).with_context(|| format!("write {}", done.display()))
    }

    fn newest(&self, kernel: &Kernel) -> Result<String> {
        let mut list = self.command("apt-cache");
        list.args(["pkgnames", &format!("linux-image-{}", kernel.series)]);
        let names = process::capture(&mut list)?;
        let releases = names
            .lines()
            .filter_map(|name| release(name, kernel.flavour))
            .max_by(|a, b| by_version(a, b));
        let release = releases.with_context(|| {
            format!(
                "no package linux-image-{}…-{} in the archives",
                kernel.series, kernel.flavour
            )
        })?;
        Ok(release.to_owned())
    }

    fn knows(&self, package: &str, arch: Arch) -> Result<bool> {
        let mut policy = self.command("apt-cache");
        policy.args(["policy", &format!("{package}:{arch}")]);
        Ok(process::capture(&mut policy)?.contains("Candidate:"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let root = self.root.display();
        for option in [
            format!("Dir::State::lists={root}/lists"),
            format!("Dir::State::status={root}/status"),
            format!("Dir::Cache={root}/cache"),
            format!("Dir::Etc::sourcelist={root}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            "APT::Architectures=amd64,arm64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            // Only the packages' names are needed: no icons, no contents.
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ] {
            command.arg(format!("-o{option}"));
        }
        command
    }
}

fn sources_list() -> String {
    let lines = SUITES.iter().map(|(archive, suite)| {
        format!("deb [arch=amd64,arm64 signed-by={DEBIAN_KEYRING}] http://deb.debian.org/{archive} {suite} main\n")
    });
    lines.collect()
}

/// The release in `linux-image-RELEASE`, if it has exactly this flavour, and is neither unsigned
/// nor for debugging.
fn release<'a>(package: &'a str, flavour: &str) -> Option<&'a str> {
    let release = package.strip_prefix("linux-image-")?;
    let version = release.strip_suffix(flavour)?.strip_suffix('-')?;
    let is_version = version
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b".+-".contains(&byte) || byte.is_ascii_lowercase());
    let last = version.rsplit('-').next()?;
    let of_another = last.bytes().all(|byte| byte.is_ascii_lowercase());
    (is_version
        && version.contains('.')
        && !of_another
        && version.bytes().any(|b| b.is_ascii_digit()))
    .then_some(release)
    // `linux-image-6.12-cloud-amd64` only depends on the newest.
    .filter(|_| version.matches('.').count() >= 2)
}

/// By their numbers, from left to right.
fn by_version(a: &str, b: &str) -> Ordering {
    let numbers = |release: &str| {
        let parts = release.split(|c: char| !c.is_ascii_digit());
        let numbers = parts.filter_map(|part| part.parse::<u32>().ok());
        numbers.collect::<Vec<_>>()
    };
    numbers(a).cmp(&numbers(b))
}

/// Archive and suite of every kernel of the matrix, and of the guest's own programs.
const SUITES: &[(&str, &str)] = &[
    ("debian", "bullseye"),
    ("debian-security", "bullseye-security"),
    ("debian", "bookworm"),
    ("debian-security", "bookworm-security"),
    ("debian-security", "trixie-security"),
    ("debian", "trixie-backports"),
];

/// In a kernel's directory.
const IMAGE: &str = "vmlinuz";
const MODULES: &str = "modules";
/// The names of the modules that were kept.
const WANTED: &str = "wanted";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_of_exactly_one_flavour() {
        for (package, flavour, of) in [
            (
                "linux-image-6.12.118+deb13-cloud-amd64",
                "cloud-amd64",
                true,
            ),
            ("linux-image-6.12.118+deb13-cloud-amd64", "amd64", false),
            ("linux-image-6.12.118+deb13-amd64", "amd64", true),
            ("linux-image-5.10.0-46-amd64", "amd64", true),
            ("linux-image-5.10.0-46-rt-amd64", "amd64", false),
            ("linux-image-6.12-cloud-amd64", "cloud-amd64", false),
            (
                "linux-image-5.10.0-46-cloud-amd64-dbg",
                "cloud-amd64",
                false,
            ),
            ("linux-image-7.3.4+deb13-arm64-16k", "arm64-16k", true),
            (
                "linux-image-6.1.0-56-cloud-amd64-unsigned",
                "cloud-amd64",
                false,
            ),
        ] {
            assert_eq!(
                release(package, flavour).is_some(),
                of,
                "{package} {flavour}"
            );
        }
    }

    #[test]
    fn the_newest_is_so_by_number() {
        assert_eq!(
            by_version("6.12.9+deb13-a", "6.12.118+deb13-a"),
            Ordering::Less
        );
        assert_eq!(by_version("5.10.0-46-a", "5.10.0-5-a"), Ordering::Greater);
    }
}
