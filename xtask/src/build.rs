//! `cargo xtask build`: the agent, with its kernel half.

use std::path::PathBuf;

use anyhow::Result;

use crate::{process, setup, workspace::Workspace};

/// Arguments of `cargo xtask build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Optimize, as for what is shipped
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    setup::ensure(setup::BUILD, workspace)?;
    let agent = agent(options.release, workspace)?;
    println!("{}", agent.display());
    Ok(())
}

/// Builds the agent and returns where it is. Its needs must be met.
pub(crate) fn agent(release: bool, workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = workspace.cargo(&["build", "--locked", "--package", "statlink"]);
    let profile = if release {
        cargo.arg("--release");
        "release"
    } else {
        "debug"
    };
    process::run("build the agent", &mut cargo)?;
    Ok(workspace.target.join(profile).join("statlink"))
}
