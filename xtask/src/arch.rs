//! The CPU architectures that the agent is built for, and what a build for each needs.

use std::{env, fmt, process::Command};

use anyhow::{Result, bail};

use crate::setup::{self, Need};

/// A CPU architecture, with its names in Debian, Go, container images, Rust and GNU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    pub(crate) const ALL: &[Self] = &[Self::Amd64, Self::Arm64];

    /// This machine's architecture.
    pub(crate) fn native() -> Result<Self> {
        Ok(match env::consts::ARCH {
            "x86_64" => Self::Amd64,
            "aarch64" => Self::Arm64,
            other => bail!("statlink is built for x86-64 and arm64, and this is {other}"),
        })
    }

    /// Its name in Debian, Go and container images.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Its target triple in Rust.
    pub(crate) const fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The prefix of GNU's tools, and the name of Debian's directories of libraries.
    pub(crate) const fn multiarch(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// The architecture of this triple.
    pub(crate) fn of_triple(triple: &str) -> Result<Self, String> {
        find(|arch| arch.triple() == triple).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|arch| arch.triple()).collect();
            format!("expected {}", known.join(" or "))
        })
    }

    /// The architecture of this platform of a container image: `linux/arm64`.
    pub(crate) fn of_platform(platform: &str) -> Result<Self, String> {
        find(|arch| platform.strip_prefix("linux/") == Some(arch.debian()))
            .ok_or_else(|| "expected linux/amd64 or linux/arm64".to_owned())
    }

    /// What a build for it needs beyond a build for this machine.
    pub(crate) fn needs(self) -> Result<&'static [Need]> {
        Ok(match (Self::native()?, self) {
            (Self::Amd64, Self::Arm64) => setup::ARM64,
            (native, wanted) if native == wanted => &[],
            (native, wanted) => bail!("what is for {wanted} is not built on {native}"),
        })
    }

    /// Makes this cargo build for it.
    pub(crate) fn target(self, cargo: &mut Command) -> Result<()> {
        cargo.args(["--target", self.triple()]);
        if Self::native()? == self {
            return Ok(());
        }
        // Cargo reads the linker's variable in capitals, and the crate `cc` reads its own in the
        // target's case, with underscores.
        let triple = self.triple().replace('-', "_");
        let tool = |name: &str| format!("{}-{name}", self.multiarch());
        let linker = format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase());
        cargo.env(linker, tool("gcc"));
        cargo.env(format!("CC_{triple}"), tool("gcc"));
        cargo.env(format!("AR_{triple}"), tool("ar"));
        Ok(())
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.debian())
    }
}

fn find(wanted: impl Fn(&Arch) -> bool) -> Option<Arch> {
    Arch::ALL.iter().copied().find(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_names() {
        for &arch in Arch::ALL {
            assert_eq!(Arch::of_triple(arch.triple()), Ok(arch));
            assert_eq!(Arch::of_platform(&format!("linux/{arch}")), Ok(arch));
        }
        assert!(Arch::of_platform("windows/amd64").is_err());
        assert!(Arch::of_platform("arm64").is_err());
        let error = Arch::of_triple("aarch64-unknown-linux-musl").unwrap_err();
        assert!(error.contains("aarch64-unknown-linux-gnu"), "{error}");
    }

    #[test]
    fn a_build_for_another_names_its_linker() {
        for &arch in Arch::ALL {
            let mut cargo = Command::new("cargo");
            arch.target(&mut cargo).unwrap();
            let linker = cargo
                .get_envs()
                .find(|(name, _)| name.to_string_lossy().ends_with("_LINKER"));
            assert_eq!(linker.is_none(), arch == Arch::native().unwrap());
        }
    }
}
