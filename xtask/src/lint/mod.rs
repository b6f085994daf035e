//! `cargo xtask lint`: all checks that do not run the code. Every check runs; the failed ones are
//! named at the end.

mod block;
mod docs;
mod go;
mod links;
mod modules;
mod rust;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum as _;

use crate::{
    process,
    setup::{self, Need},
    workspace::Workspace,
};

/// Arguments of `cargo xtask lint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The checks to run; all by default
    #[arg(value_enum)]
    checks: Vec<Check>,
    /// Correct what a program can correct: formatting, the picture of modules, generated parts of
    /// documents
    #[arg(long)]
    fix: bool,
}

/// One check. Declared in the order in which they run: quick ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Check {
    /// rustfmt
    Format,
    /// Modules import in one direction, and the picture of it is current
    Modules,
    /// Documents against the code: names, numbers, files, tests, lists that must be complete
    Docs,
    /// Relative links and anchors in the documents
    Links,
    /// typos
    Spelling,
    /// The dependencies of the link crate
    Purity,
    /// clippy, for all that runs in userspace
    Clippy,
    /// clippy, for the programs that run in the kernel
    Kernel,
    /// rustdoc, private items included
    Rustdoc,
    /// cargo-deny: licences, bans and sources of dependencies
    Deny,
    /// gofmt and go vet
    Go,
}

impl Check {
    const fn needs(self) -> &'static [Need] {
        match self {
            Self::Format => &[Need::Rustfmt],
            Self::Modules | Self::Docs | Self::Links | Self::Purity => &[],
            Self::Spelling => &[Need::Pip, Need::Typos],
            Self::Kernel => &[Need::Clippy],
            // The agent's build script compiles the kernel half.
            Self::Clippy => &[Need::Clippy, Need::BpfCompiler, Need::BpfLinker],
            Self::Rustdoc => &[Need::BpfCompiler, Need::BpfLinker],
            Self::Deny => &[Need::CargoDeny],
            Self::Go => &[Need::Go],
        }
    }

    fn run(self, fix: bool, workspace: &Workspace) -> Result<()> {
        match self {
            Self::Format => rust::format(fix, workspace),
            Self::Modules => modules::check(fix, workspace),
            Self::Docs => docs::check(fix, workspace),
            Self::Links => links::check(workspace),
            Self::Spelling => spelling(workspace),
            Self::Purity => rust::purity(workspace),
            Self::Clippy => rust::clippy(workspace),
            Self::Kernel => rust::kernel(workspace),
            Self::Rustdoc => rust::rustdoc(workspace),
            Self::Deny => rust::deny(workspace),
            Self::Go => go::check(fix, workspace),
        }
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    let checks = selected(&options.checks);
    let needs: Vec<_> = checks
        .iter()
        .flat_map(|check| check.needs())
        .copied()
        .collect();
    setup::ensure(&needs, workspace)?;

    let (mut lines, mut failed) = (Vec::new(), Vec::new());
    for check in checks {
        let start = Instant::now();
        let result = check.run(options.fix, workspace);
        lines.push(summary(&check.name(), result.is_ok(), start.elapsed()));
        if let Err(error) = result {
            eprintln!("error: {}: {error:#}", check.name());
            failed.push(check.name());
        }
    }
    println!("\n{}", lines.join("\n"));
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// `.typos.toml` has the configuration, and words that are right although typos reports them.
fn spelling(workspace: &Workspace) -> Result<()> {
    let mut typos = std::process::Command::new(workspace.wheels_bin().join("typos"));
    typos
        .current_dir(&workspace.root)
        .args(["--hidden", "--force-exclude"]);
    process::run("spelling", &mut typos)
}

/// The requested checks, each once, in their order.
fn selected(checks: &[Check]) -> Vec<Check> {
    let mut checks = if checks.is_empty() {
        Check::value_variants()
    } else {
        checks
    }
    .to_vec();
    checks.sort_unstable();
    checks.dedup();
    checks
}

fn summary(name: &str, ok: bool, took: Duration) -> String {
    let result = if ok { "ok" } else { "FAILED" };
    format!("lint {name:9}{result:7}{:>9}", process::seconds(took))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_check_means_all_in_order() {
        assert_eq!(selected(&[]), Check::value_variants());
        assert_eq!(
            selected(&[Check::Go, Check::Format, Check::Go]),
            [Check::Format, Check::Go]
        );
    }

    #[test]
    fn a_line_says_how_a_check_went() {
        let took = Duration::from_millis(1500);
        assert_eq!(
            summary("clippy", true, took),
            "lint clippy   ok         1.5 s"
        );
        assert_eq!(
            summary("docs", false, took),
            "lint docs     FAILED     1.5 s"
        );
    }
}
