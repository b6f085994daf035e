//! `cargo xtask setup`: installs what a fresh machine lacks to build, test and lint statlink.
//!
//! `needs.rs` says what is needed, what for, and where it comes from; `install.rs` installs it.
//! Each command requests its own part with [`ensure()`], so nobody has to run setup first.

mod install;
mod needs;

use std::{
    collections::BTreeSet,
    env,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Result, bail, ensure};

pub(crate) use needs::{
    ARM64, BUILD, CLUSTER, DASHBOARD, DEBIAN_KEYRING, DEPLOY, GUESTS, Need, PEERS,
};

use crate::workspace::Workspace;
use install::{Installation, Machine};

/// Arguments of `cargo xtask setup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only report; fail if something is missing
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    let mut out = io::stdout();
    let mut missing = Vec::new();
    for &need in Need::ALL {
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
    let names: Vec<_> = missing.iter().map(|need| need.name()).collect();
    ensure!(!options.check, "missing: {}", names.join(", "));
    install(&missing, workspace)
}

/// Installs the missing ones of `needs`. Quiet and quick if nothing is missing.
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

/// Refuses to continue without root: only root may load programs and make namespaces.
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
            bail!("installed {need}, but it does not work: {why}");
        }
    }
    Ok(())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program on `PATH`, or in Debian's directories for root.
fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}
