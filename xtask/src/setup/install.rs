//! Installs what is missing: Debian packages, crates, wheels, components and targets of the
//! toolchain.

use std::{env, process::Command};

use anyhow::{Result, ensure};

use super::{
    is_root,
    needs::{BPF_COMPILER, Need, Source},
    program,
};
use crate::{bpf, process, workspace::Workspace};

/// What to install, by the program that installs it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Installation {
    debian: Vec<&'static str>,
    crates: Vec<(&'static str, &'static str)>,
    wheels: Vec<(&'static str, &'static str)>,
    components: Vec<&'static str>,
    targets: Vec<&'static str>,
    /// What none of our programs may install, with instructions for the machine's owner.
    owner: Vec<String>,
}

/// How this machine can install things.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    apt: bool,
    /// Root, or sudo without a password.
    root: bool,
    rustup: bool,
    /// The environment names a BPF compiler, and no installation would replace it.
    rustc_named: bool,
}

impl Machine {
    pub(super) fn look() -> Self {
        Self {
            apt: program("apt-get").is_some(),
            root: is_root() || process::succeeds(Command::new("sudo").args(["-n", "true"])),
            rustup: program("rustup").is_some(),
            rustc_named: env::var_os(bpf::RUSTC_VARIABLE).is_some(),
        }
    }
}

impl Installation {
    pub(super) fn of(missing: &[Need]) -> Self {
        let mut plan = Self::default();
        for need in missing {
            match need.source() {
                Source::Debian(packages) => plan.debian.extend(packages),
                Source::Crate(name, version) => plan.crates.push((name, version)),
                Source::Wheel(name, version) => plan.wheels.push((name, version)),
                Source::Component(name) => plan.components.push(name),
                Source::Target(triple) => plan.targets.push(triple),
                Source::Owner(how) => plan.owner.push(format!("{need} is missing: {how}")),
            }
        }
        plan
    }

    /// Why this cannot be done on `machine`: all reasons.
    pub(super) fn refusals(&self, machine: &Machine) -> Vec<String> {
        let mut refusals = self.owner.clone();
        if self.debian.contains(&BPF_COMPILER) && machine.rustc_named {
            refusals.push(format!(
                "{} names a compiler that does not work; change or unset it",
                bpf::RUSTC_VARIABLE
            ));
        }
        let packages = self.debian.join(" ");
        if !packages.is_empty() && !machine.apt {
            refusals.push(format!(
                "there is no apt-get; install the equivalents of Debian's {packages}{}",
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
        let parts: Vec<_> = self
            .components
            .iter()
            .chain(&self.targets)
            .copied()
            .collect();
        if !parts.is_empty() && !machine.rustup {
            refusals.push(format!(
                "there is no rustup; install {} for the active toolchain",
                parts.join(" and ")
            ));
        }
        refusals
    }

    pub(super) fn run(&self, workspace: &Workspace) -> Result<()> {
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
        for target in &self.targets {
            process::run(
                &format!("install Rust's library for {target}"),
                Command::new("rustup").args(["target", "add", target]),
            )?;
        }
        for (name, version) in &self.crates {
            let mut cargo = workspace.cargo(&["install", "--locked", "--force", name]);
            cargo
                .args(["--version", &format!("={version}"), "--root"])
                .arg(workspace.tools())
                // Each runs for a second or two: optimizing it further takes longer than it saves.
                .envs([
                    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
                    ("CARGO_PROFILE_RELEASE_LTO", "off"),
                    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
                    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
                ]);
            process::run(&format!("install {name} {version}"), &mut cargo)?;
        }
        for (name, version) in &self.wheels {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"])
                .args(["--disable-pip-version-check", "--root-user-action=ignore"])
                .arg("--target")
                .arg(workspace.wheels())
                .arg(format!("{name}=={version}"));
            process::run(&format!("install {name} {version}"), &mut pip)?;
        }
        Ok(())
    }
}

/// What to do where a Debian package is not available.
fn remedy(package: &str) -> &'static str {
    if package == BPF_COMPILER {
        " (Debian 12 has the compiler in bookworm-security; instead of it, a rustup nightly built \
         with LLVM 22, with rust-src, does as well)"
    } else {
        ""
    }
}

/// A command of the package manager, as root and without questions.
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
                wheels: vec![],
                components: vec!["clippy"],
                targets: vec![],
                owner: vec![],
            }
        );
    }

    #[test]
    fn a_debian_machine_with_go_is_never_refused() {
        let needs: Vec<_> = Need::ALL
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
        let refusals = Installation::of(Need::ALL).refusals(&bare);
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
        // Installing into the target directory needs no root.
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
        // It does not affect anything else.
        assert!(Installation::of(&[Need::Nft]).refusals(&named).is_empty());
    }
}
