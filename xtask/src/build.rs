//! `cargo xtask build`: the agent, with its kernel half.

use std::path::PathBuf;

use anyhow::Result;

use crate::{arch::Arch, process, setup, workspace::Workspace};

/// Arguments of `cargo xtask build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Optimize, as for a release
    #[arg(long)]
    release: bool,
    /// The architecture, if not this machine's
    #[arg(long, value_name = "TRIPLE", value_parser = Arch::of_triple)]
    target: Option<Arch>,
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    setup::ensure(setup::BUILD, workspace)?;
    let agent = build(options.release, options.target, workspace)?;
    println!("{}", agent.display());
    Ok(())
}

/// Builds the agent and returns its path. Its needs must be met.
pub(crate) fn agent(release: bool, workspace: &Workspace) -> Result<PathBuf> {
    build(release, None, workspace)
}

fn build(release: bool, target: Option<Arch>, workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = workspace.cargo(&["build", "--locked", "--package", "statlink"]);
    let mut directory = workspace.target.clone();
    if let Some(arch) = target {
        setup::ensure(arch.needs()?, workspace)?;
        arch.target(&mut cargo)?;
        directory.push(arch.triple());
    }
    let profile = if release {
        cargo.arg("--release");
        "release"
    } else {
        "debug"
    };
    process::run("build the agent", &mut cargo)?;
    Ok(directory.join(profile).join("statlink"))
}
