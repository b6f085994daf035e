//! The table of needs: what a machine needs, what for, and where it comes from.

use std::{env, fmt, path::Path, path::PathBuf, process::Command};

use super::program;
use crate::{
    arch::Arch,
    bpf::{self, Compiler},
    process,
    workspace::Workspace,
};

/// A need of this workspace beyond cargo and a C linker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    BpfCompiler,
    BpfLinker,
    Nft,
    Ip,
    OpenSsl,
    Containerd,
    Cni,
    Haproxy,
    Go,
    Node,
    Chromium,
    Rustfmt,
    Clippy,
    CargoDeny,
    Pip,
    Typos,
    QemuX86,
    QemuArm,
    DebianKeyring,
    Readelf,
    Xz,
    Arm64Library,
    Arm64Linker,
}

/// The needs of building the agent.
pub(crate) const BUILD: &[Need] = &[Need::BpfCompiler, Need::BpfLinker];

/// The needs of the chart's tests; they build Helm.
pub(crate) const DEPLOY: &[Need] = &[Need::BpfCompiler, Need::BpfLinker, Need::Go];

/// The needs of the test bed, and so of every test on it, the demo and the benchmark.
pub(crate) const PEERS: &[Need] = &[
    Need::BpfCompiler,
    Need::BpfLinker,
    Need::Nft,
    Need::Ip,
    Need::OpenSsl,
    Need::Haproxy,
    Need::Go,
];

/// The needs of drawing dashboards, besides [`PEERS`].
pub(crate) const DASHBOARD: &[Need] = &[Need::Node, Need::Chromium];

/// The needs of the node in the cluster's tests; every other part is built for it.
pub(crate) const CLUSTER: &[Need] = &[
    Need::BpfCompiler,
    Need::BpfLinker,
    Need::Nft,
    Need::Ip,
    Need::OpenSsl,
    Need::Containerd,
    Need::Cni,
    Need::Go,
];

/// The needs of guests with other kernels.
pub(crate) const GUESTS: &[Need] = &[
    Need::BpfCompiler,
    Need::BpfLinker,
    Need::Go,
    Need::QemuX86,
    Need::QemuArm,
    Need::DebianKeyring,
    Need::Readelf,
    Need::Xz,
];

/// The needs of building for arm64 on amd64. Debian's compiler links with Debian's C library; a
/// compiler with its own, such as Zig, would give the two architectures' programs different ones.
pub(crate) const ARM64: &[Need] = &[Need::Arm64Library, Need::Arm64Linker];

/// A line of the table of needs.
struct Row {
    name: &'static str,
    purpose: &'static str,
    source: Source,
}

/// The source of a need.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// Debian packages.
    Debian(&'static [&'static str]),
    /// A program of a crate, in exactly this version, installed into the target directory.
    Crate(&'static str, &'static str),
    /// A program in a Python wheel, in exactly this version, installed into the target directory.
    Wheel(&'static str, &'static str),
    /// A component of the active rustup toolchain.
    Component(&'static str),
    /// The standard library of the active rustup toolchain for this target.
    Target(&'static str),
    /// The owner of the machine, by these instructions.
    Owner(&'static str),
}

impl Need {
    /// Every need, in the order in which `setup` reports them.
    pub(super) const ALL: &[Self] = &[
        Self::BpfCompiler,
        Self::BpfLinker,
        Self::Nft,
        Self::Ip,
        Self::OpenSsl,
        Self::Haproxy,
        Self::Containerd,
        Self::Cni,
        Self::Go,
        Self::Node,
        Self::Chromium,
        Self::Rustfmt,
        Self::Clippy,
        Self::CargoDeny,
        Self::Pip,
        Self::Typos,
        Self::QemuX86,
        Self::QemuArm,
        Self::DebianKeyring,
        Self::Readelf,
        Self::Xz,
        Self::Arm64Library,
        Self::Arm64Linker,
    ];

    pub(super) const fn name(self) -> &'static str {
        self.row().name
    }

    pub(super) const fn source(self) -> Source {
        self.row().source
    }

    /// The table of needs.
    const fn row(self) -> Row {
        match self {
            Self::BpfCompiler => Row {
                name: "BPF compiler",
                purpose: "compiles the kernel half",
                source: Source::Debian(&[BPF_COMPILER, "libstd-rust-web-dev-bpf"]),
            },
            Self::BpfLinker => Row {
                name: "bpf-linker",
                purpose: "links the kernel half",
                source: Source::Crate("bpf-linker", bpf::LINKER_VERSION),
            },
            Self::Nft => Row {
                name: "nft",
                purpose: "cuts and refuses the tests' connections",
                source: Source::Debian(&["nftables"]),
            },
            Self::Ip => Row {
                name: "ip",
                purpose: "makes the tests' network namespaces",
                source: Source::Debian(&["iproute2"]),
            },
            Self::OpenSsl => Row {
                name: "openssl",
                purpose: "makes the tests' certificates",
                source: Source::Debian(&["openssl"]),
            },
            Self::Containerd => Row {
                name: "containerd",
                purpose: "runs the pods of the cluster's tests",
                source: Source::Debian(&["containerd", "runc"]),
            },
            Self::Cni => Row {
                name: "CNI plugins",
                purpose: "connect the pods of the cluster's tests",
                source: Source::Debian(&["containernetworking-plugins"]),
            },
            Self::Haproxy => Row {
                name: "haproxy",
                purpose: "proxies the tests' connections as a mesh's sidecar does",
                source: Source::Debian(&["haproxy"]),
            },
            Self::Go => Row {
                name: "go",
                purpose: "builds the real Knative peers and the Collector",
                source: Source::Owner("install Go 1.21 or later from https://go.dev/dl"),
            },
            Self::Node => Row {
                name: "node",
                purpose: "runs what draws the dashboards",
                source: Source::Debian(&["nodejs", "npm"]),
            },
            Self::Chromium => Row {
                name: "chromium",
                purpose: "draws the dashboards",
                source: Source::Debian(&["chromium"]),
            },
            Self::Rustfmt => Row {
                name: "rustfmt",
                purpose: "checks formatting",
                source: Source::Component("rustfmt"),
            },
            Self::Clippy => Row {
                name: "clippy",
                purpose: "checks the code",
                source: Source::Component("clippy"),
            },
            Self::CargoDeny => Row {
                name: "cargo-deny",
                purpose: "checks licences and sources of dependencies",
                source: Source::Crate("cargo-deny", CARGO_DENY_VERSION),
            },
            Self::Pip => Row {
                name: "pip",
                purpose: "installs typos",
                source: Source::Debian(&["python3-pip"]),
            },
            Self::Typos => Row {
                name: "typos",
                purpose: "checks spelling",
                source: Source::Wheel("typos", TYPOS_VERSION),
            },
            Self::QemuX86 => Row {
                name: "qemu-system-x86_64",
                purpose: "boots other kernels",
                source: Source::Debian(&["qemu-system-x86"]),
            },
            Self::QemuArm => Row {
                name: "qemu-system-aarch64",
                purpose: "boots arm64's kernels",
                source: Source::Debian(&["qemu-system-arm"]),
            },
            Self::DebianKeyring => Row {
                name: "Debian's keyring",
                purpose: "trusts the kernels that guests boot",
                source: Source::Debian(&["debian-archive-keyring"]),
            },
            Self::Readelf => Row {
                name: "readelf",
                purpose: "finds the libraries of the guests' programs",
                source: Source::Debian(&["binutils"]),
            },
            Self::Xz => Row {
                name: "xz",
                purpose: "unpacks kernels' modules",
                source: Source::Debian(&["xz-utils"]),
            },
            Self::Arm64Library => Row {
                name: "Rust's library for arm64",
                purpose: "builds the agent for arm64",
                source: Source::Target(Arch::Arm64.triple()),
            },
            Self::Arm64Linker => Row {
                name: "aarch64-linux-gnu-gcc",
                purpose: "links the agent for arm64",
                source: Source::Debian(&["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"]),
            },
        }
    }

    /// Its location, or why what is there is not usable.
    pub(super) fn look(self, workspace: &Workspace) -> Result<String, String> {
        match self {
            Self::BpfCompiler => Compiler::find()
                .map(|compiler| compiler.to_string())
                .map_err(|rejected| why_no_compiler(&rejected)),
            Self::BpfLinker => found(bpf::find_linker([workspace.tools_bin()])),
            Self::Nft => found(program("nft")),
            Self::Ip => found(program("ip")),
            Self::Haproxy => found(program("haproxy")),
            Self::OpenSsl => found(program("openssl")),
            Self::QemuX86 => found(program("qemu-system-x86_64")),
            Self::QemuArm => found(program("qemu-system-aarch64")),
            Self::Readelf => found(program("readelf")),
            Self::Xz => found(program("xz")),
            Self::Arm64Library => library(Arch::Arm64),
            Self::Arm64Linker => found(program("aarch64-linux-gnu-gcc")),
            Self::DebianKeyring => {
                let keyring = Path::new(DEBIAN_KEYRING);
                found(keyring.is_file().then(|| keyring.to_owned()))
            }
            Self::Containerd => {
                program("runc").ok_or("runc is not on PATH")?;
                found(program("containerd"))
            }
            Self::Cni => {
                let plugin = Path::new(CNI_PLUGINS).join("ptp");
                found(plugin.is_file().then_some(plugin))
            }
            Self::Go => {
                let go = program("go").ok_or("not on PATH")?;
                let version = process::capture(Command::new(&go).arg("version"))
                    .map_err(|error| format!("{error:#}"))?;
                check_go(&version).map(|()| go.display().to_string())
            }
            Self::Node => {
                program("npm").ok_or("npm is not on PATH")?;
                found(program("node"))
            }
            Self::Chromium => found(program("chromium")),
            Self::Rustfmt => cargo_command(workspace, "fmt"),
            Self::Clippy => cargo_command(workspace, "clippy"),
            Self::CargoDeny => exactly(
                workspace.tools_bin().join("cargo-deny"),
                &format!("cargo-deny {CARGO_DENY_VERSION}"),
            ),
            Self::Pip => {
                let pip = ["-m", "pip", "--version"];
                if process::succeeds(Command::new("python3").args(pip)) {
                    Ok("python3 -m pip".to_owned())
                } else {
                    Err("not installed".to_owned())
                }
            }
            Self::Typos => exactly(
                workspace.wheels_bin().join("typos"),
                &format!("typos-cli {TYPOS_VERSION}"),
            ),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { name, purpose, .. } = self.row();
        write!(f, "{name} ({purpose})")
    }
}

fn found(path: Option<PathBuf>) -> Result<String, String> {
    path.as_deref()
        .map(Path::display)
        .map(|path| path.to_string())
        .ok_or_else(|| "not installed".to_owned())
}

fn cargo_command(workspace: &Workspace, name: &str) -> Result<String, String> {
    if process::succeeds(&mut workspace.cargo(&[name, "--version"])) {
        Ok(format!("cargo {name}"))
    } else {
        Err("not part of the active toolchain".to_owned())
    }
}

/// The active toolchain's standard library for this architecture.
fn library(arch: Arch) -> Result<String, String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut rustc = Command::new(rustc);
    rustc.args(["--print=target-libdir", "--target", arch.triple()]);
    let printed = process::capture(&mut rustc).map_err(|error| format!("{error:#}"))?;
    let place = Path::new(printed.trim());
    found(place.is_dir().then(|| place.to_owned()))
}

/// Accepts a program that reports this version.
fn exactly(program: PathBuf, version: &str) -> Result<String, String> {
    if !program.is_file() {
        return Err("not installed".to_owned());
    }
    let printed = process::capture(Command::new(&program).arg("--version"))
        .map_err(|error| format!("{error:#}"))?;
    if printed.trim() == version {
        Ok(program.display().to_string())
    } else {
        Err(format!("`{}` is not {version}", printed.trim()))
    }
}

/// Since 1.21, Go itself fetches the toolchain that a module requires.
fn check_go(version: &str) -> Result<(), String> {
    let number = version.split_whitespace().nth(2).unwrap_or_default();
    let minor = number
        .strip_prefix("go1.")
        .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
        .and_then(|minor| minor.parse::<u32>().ok());
    match minor {
        Some(21..) => Ok(()),
        _ => Err(format!("`{}` is not 1.21 or later", version.trim())),
    }
}

fn why_no_compiler(rejected: &[bpf::Rejected]) -> String {
    let seen: Vec<_> = rejected.iter().map(ToString::to_string).collect();
    if seen.is_empty() {
        format!("no rustc can build for {}", bpf::TARGET)
    } else {
        seen.join("; ")
    }
}

/// Debian's second rustc, kept for browsers; its standard libraries include BPF's `core`.
pub(super) const BPF_COMPILER: &str = "rustc-web";

/// Debian's directory for them, which the test bed's containerd uses.
const CNI_PLUGINS: &str = "/usr/lib/cni";

/// The keys that sign the kernels' archives.
pub(crate) const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// It builds with the workspace's rust-version.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// Its wheel contains the program; compiling it takes minutes.
const TYPOS_VERSION: &str = "1.52.0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_must_be_able_to_fetch_the_toolchain_a_module_asks_for() {
        assert_eq!(check_go("go version go1.26.1 linux/amd64"), Ok(()));
        assert_eq!(check_go("go version go1.21 linux/amd64"), Ok(()));
        assert!(check_go("go version go1.19.8 linux/amd64").is_err());
        assert!(check_go("go version devel").is_err());
    }
}
