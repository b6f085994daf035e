//! `cargo xtask setup`: what a fresh machine lacks to build, test and lint statlink.
//!
//! One table says what is needed, what for, and where it comes from. Each command asks for its
//! own part of it with [`ensure`], so nobody has to run setup first.

use std::{
    collections::BTreeSet,
    env, fmt,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail, ensure};

use crate::{
    bpf::{self, Compiler},
    process,
    workspace::Workspace,
};

/// Arguments of `cargo xtask setup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only report; fails when something is missing
    #[arg(long)]
    check: bool,
}

/// Something this workspace needs of a machine beyond cargo and a C linker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    BpfCompiler,
    BpfLinker,
    Nft,
    Ip,
    OpenSsl,
    Containerd,
    Cni,
    Go,
    Rustfmt,
    Clippy,
    CargoDeny,
}

/// What building the agent takes.
pub(crate) const BUILD: &[Need] = &[Need::BpfCompiler, Need::BpfLinker];

/// What the tests of the chart take; they build Helm.
pub(crate) const DEPLOY: &[Need] = &[Need::BpfCompiler, Need::BpfLinker, Need::Go];

/// What the test bed takes, and with it every test on it, the demo and the benchmark.
pub(crate) const PEERS: &[Need] = &[
    Need::BpfCompiler,
    Need::BpfLinker,
    Need::Nft,
    Need::Ip,
    Need::OpenSsl,
    Need::Go,
];

/// What the node of the cluster's tests takes; it has every other part built.
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

/// What the checks of `lint` take: clippy also builds the agent, `go vet` needs Go.
pub(crate) const LINT: &[Need] = &[
    Need::BpfCompiler,
    Need::BpfLinker,
    Need::Go,
    Need::Rustfmt,
    Need::Clippy,
    Need::CargoDeny,
];

const ALL: &[Need] = &[
    Need::BpfCompiler,
    Need::BpfLinker,
    Need::Nft,
    Need::Ip,
    Need::OpenSsl,
    Need::Containerd,
    Need::Cni,
    Need::Go,
    Need::Rustfmt,
    Need::Clippy,
    Need::CargoDeny,
];

/// A line of the table of needs.
struct Row {
    name: &'static str,
    purpose: &'static str,
    source: Source,
}

/// Where something comes from.
#[derive(Clone, Copy)]
enum Source {
    /// Debian packages.
    Debian(&'static [&'static str]),
    /// A crate's program, in exactly this version, into the target directory.
    Crate(&'static str, &'static str),
    /// A component of the active rustup toolchain.
    Component(&'static str),
    /// Whoever owns the machine, told how.
    Owner(&'static str),
}

impl Need {
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
            Self::Go => Row {
                name: "go",
                purpose: "builds the real Knative peers and the Collector",
                source: Source::Owner("install Go 1.21 or later from https://go.dev/dl"),
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
        }
    }

    /// Where it is, or why what there is will not do.
    fn look(self, workspace: &Workspace) -> Result<String, String> {
        match self {
            Self::BpfCompiler => Compiler::find()
                .map(|compiler| compiler.to_string())
                .map_err(|rejected| why_no_compiler(&rejected)),
            Self::BpfLinker => found(bpf::find_linker([workspace.tools_bin()])),
            Self::Nft => found(program("nft")),
            Self::Ip => found(program("ip")),
            Self::OpenSsl => found(program("openssl")),
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
            Self::Rustfmt => cargo_command(workspace, "fmt"),
            Self::Clippy => cargo_command(workspace, "clippy"),
            Self::CargoDeny => {
                let deny = workspace.tools_bin().join("cargo-deny");
                if !deny.is_file() {
                    return Err("not installed".to_owned());
                }
                let version = process::capture(Command::new(&deny).arg("--version"))
                    .map_err(|error| format!("{error:#}"))?;
                if version.trim() == format!("cargo-deny {CARGO_DENY_VERSION}") {
                    Ok(deny.display().to_string())
                } else {
                    Err(format!("{} is another version", version.trim()))
                }
            }
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { name, purpose, .. } = self.row();
        write!(f, "{name} ({purpose})")
    }
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    let mut out = io::stdout();
    let mut missing = Vec::new();
    for &need in ALL {
        match need.look(workspace) {
            Ok(place) => writeln!(out, "ok       {need}: {place}")?,
            Err(why) => {
                writeln!(out, "missing  {need}: {why}")?;
                missing.push(need);
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(!options.check, "missing: {}", names(&missing));
    install(&missing, workspace)
}

/// Makes sure of `needs`. Quiet and quick when all is there.
pub(crate) fn ensure(needs: &[Need], workspace: &Workspace) -> Result<()> {
    let needs: BTreeSet<_> = needs.iter().copied().collect();
    let mut missing = Vec::new();
    for need in needs {
        if let Err(why) = need.look(workspace) {
            eprintln!("── missing {need}: {why}");
            missing.push(need);
        }
    }
    install(&missing, workspace)
}

/// Refuses to go on as anyone but root, who alone may load programs and make namespaces.
pub(crate) fn require_root(what: &str) -> Result<()> {
    ensure!(
        is_root(),
        "`cargo xtask {what}` loads kernel programs and makes network namespaces: run it as root \
         (sudo -E env \"PATH=$PATH\" cargo xtask {what})"
    );
    Ok(())
}

fn install(missing: &[Need], workspace: &Workspace) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let plan = Installation::of(missing);
    let refusals = plan.refusals(&Machine::look());
    ensure!(
        refusals.is_empty(),
        "cannot set up: {}",
        refusals.join("; ")
    );
    plan.run(workspace)?;

    for need in missing {
        if let Err(why) = need.look(workspace) {
            bail!("installed {need}, yet it will not do: {why}");
        }
    }
    Ok(())
}

/// What is to be installed, by the program that does it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Installation {
    debian: Vec<&'static str>,
    crates: Vec<(&'static str, &'static str)>,
    components: Vec<&'static str>,
    /// What no program of ours may install, and what its owner is to do.
    owner: Vec<String>,
}

/// What this machine can install with.
#[derive(Clone, Copy, Debug)]
struct Machine {
    apt: bool,
    /// Root, or sudo without a password.
    root: bool,
    rustup: bool,
    /// The environment names a BPF compiler, and nothing installed would take its place.
    rustc_named: bool,
}

impl Machine {
    fn look() -> Self {
        Self {
            apt: program("apt-get").is_some(),
            root: is_root() || process::succeeds(Command::new("sudo").args(["-n", "true"])),
            rustup: program("rustup").is_some(),
            rustc_named: env::var_os(bpf::RUSTC_VARIABLE).is_some(),
        }
    }
}

impl Installation {
    fn of(missing: &[Need]) -> Self {
        let mut plan = Self::default();
        for need in missing {
            match need.row().source {
                Source::Debian(packages) => plan.debian.extend(packages),
                Source::Crate(name, version) => plan.crates.push((name, version)),
                Source::Component(name) => plan.components.push(name),
                Source::Owner(how) => plan.owner.push(format!("{need} is missing: {how}")),
            }
        }
        plan
    }

    /// Why this cannot be done on `machine`; all reasons together.
    fn refusals(&self, machine: &Machine) -> Vec<String> {
        let mut refusals = self.owner.clone();
        if self.debian.contains(&BPF_COMPILER) && machine.rustc_named {
            refusals.push(format!(
                "{} names a compiler that will not do; change or unset it",
                bpf::RUSTC_VARIABLE
            ));
        }
        let packages = self.debian.join(" ");
        if !packages.is_empty() && !machine.apt {
            refusals.push(format!(
                "there is no apt-get; install what Debian calls {packages}{}",
                self.debian
                    .iter()
                    .map(|package| remedy(package))
                    .collect::<String>()
            ));
        } else if !packages.is_empty() && !machine.root {
            refusals.push(format!(
                "neither root nor sudo without a password; run: apt-get install {packages}"
            ));
        }
        if !self.components.is_empty() && !machine.rustup {
            refusals.push(format!(
                "there is no rustup; install {} for the active toolchain",
                self.components.join(" and ")
            ));
        }
        refusals
    }

    fn run(&self, workspace: &Workspace) -> Result<()> {
        if !self.debian.is_empty() {
            process::run(
                "update the package lists",
                &mut apt("apt-get", &["-q", "update"]),
            )?;
            for package in &self.debian {
                ensure!(
                    process::succeeds(Command::new("apt-cache").args(["show", package])),
                    "apt-get has no package {package} in its sources{}",
                    remedy(package)
                );
            }
            let mut install = apt(
                "apt-get",
                &["-q", "-y", "--no-install-recommends", "install"],
            );
            process::run("install Debian packages", install.args(&self.debian))?;
        }
        for component in &self.components {
            process::run(
                &format!("install {component}"),
                Command::new("rustup").args(["component", "add", component]),
            )?;
        }
        for (name, version) in &self.crates {
            let mut cargo = workspace.cargo(&["install", "--locked", "--force", name]);
            cargo
                .args(["--version", &format!("={version}"), "--root"])
                .arg(workspace.tools());
            process::run(&format!("install {name} {version}"), &mut cargo)?;
        }
        Ok(())
    }
}

/// The way round a Debian package that is not to be had.
fn remedy(package: &str) -> &'static str {
    if package == BPF_COMPILER {
        " (Debian 12 has the compiler in bookworm-security; instead of it, a rustup nightly built \
         with LLVM 22, with rust-src, does as well)"
    } else {
        ""
    }
}

/// A package command as root that asks nothing.
fn apt(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(if is_root() { "env" } else { "sudo" });
    if !is_root() {
        command.args(["-n", "env"]);
    }
    command
        .args(["DEBIAN_FRONTEND=noninteractive", program])
        .args(arguments);
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program on `PATH`, or where Debian keeps root's.
fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
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

/// Go fetches the toolchain a module asks for by itself since 1.21.
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

fn names(needs: &[Need]) -> String {
    let names: Vec<_> = needs.iter().map(|need| need.row().name).collect();
    names.join(", ")
}

/// Debian's second rustc, kept for browsers; its standard libraries include BPF's `core`.
const BPF_COMPILER: &str = "rustc-web";

/// Where Debian puts them, and where the test bed's containerd looks.
const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Builds with the workspace's rust-version.
const CARGO_DENY_VERSION: &str = "0.20.2";

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN_AS_ROOT: Machine = Machine {
        apt: true,
        root: true,
        rustup: true,
        rustc_named: false,
    };

    #[test]
    fn each_missing_thing_goes_to_the_program_that_installs_it() {
        assert_eq!(
            Installation::of(&[Need::BpfCompiler, Need::BpfLinker, Need::Nft, Need::Clippy]),
            Installation {
                debian: vec!["rustc-web", "libstd-rust-web-dev-bpf", "nftables"],
                crates: vec![("bpf-linker", bpf::LINKER_VERSION)],
                components: vec!["clippy"],
                owner: vec![],
            }
        );
    }

    #[test]
    fn a_debian_machine_with_go_is_never_refused() {
        let needs: Vec<_> = ALL
            .iter()
            .copied()
            .filter(|need| *need != Need::Go)
            .collect();
        assert!(
            Installation::of(&needs)
                .refusals(&DEBIAN_AS_ROOT)
                .is_empty()
        );
    }

    #[test]
    fn refusals_come_together_and_say_what_to_do() {
        let bare = Machine {
            apt: false,
            root: false,
            rustup: false,
            rustc_named: false,
        };
        let refusals = Installation::of(ALL).refusals(&bare);
        assert_eq!(refusals.len(), 3, "{refusals:#?}");
        for (refusal, cure) in refusals
            .iter()
            .zip(["go.dev/dl", "nftables", "rustfmt and clippy"])
        {
            assert!(refusal.contains(cure), "{refusal}");
        }
    }

    #[test]
    fn who_is_not_root_is_told_the_command() {
        let user = Machine {
            root: false,
            ..DEBIAN_AS_ROOT
        };
        assert_eq!(
            Installation::of(&[Need::Nft]).refusals(&user),
            ["neither root nor sudo without a password; run: apt-get install nftables"]
        );
        // What goes into the target directory needs no root.
        assert!(
            Installation::of(&[Need::BpfLinker])
                .refusals(&user)
                .is_empty()
        );
    }

    #[test]
    fn a_compiler_named_by_the_environment_is_not_replaced() {
        let named = Machine {
            rustc_named: true,
            ..DEBIAN_AS_ROOT
        };
        let [refusal] = &Installation::of(&[Need::BpfCompiler]).refusals(&named)[..] else {
            panic!("one refusal");
        };
        assert!(refusal.starts_with(bpf::RUSTC_VARIABLE), "{refusal}");
        // It has no say in anything else.
        assert!(Installation::of(&[Need::Nft]).refusals(&named).is_empty());
    }

    #[test]
    fn every_command_s_part_is_in_the_whole() {
        for need in [BUILD, PEERS, CLUSTER, LINT].concat() {
            assert!(ALL.contains(&need), "{need}");
        }
    }

    #[test]
    fn go_must_be_able_to_fetch_the_toolchain_a_module_asks_for() {
        assert_eq!(check_go("go version go1.26.1 linux/amd64"), Ok(()));
        assert_eq!(check_go("go version go1.21 linux/amd64"), Ok(()));
        assert!(check_go("go version go1.19.8 linux/amd64").is_err());
        assert!(check_go("go version devel").is_err());
    }
}
