//! `cargo xtask demo`, `bench` and `campaign`: programs of the tests crate that put the agent on
//! the test bed. What they show and measure is theirs; here all they need is made ready.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};

use crate::{build, process, setup, workspace::Workspace};

/// Arguments of `cargo xtask demo`, `bench` and `campaign`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Passed on as they are; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Options {
    fn asks_for_help(&self) -> bool {
        let mut arguments = self.arguments.iter();
        arguments.any(|argument| argument == "--help" || argument == "-h")
    }
}

/// Replaces this process by the program, so that its signals and exit code are its own.
pub(crate) fn run(program: &str, options: &Options, workspace: &Workspace) -> Result<()> {
    // A question takes no more than the program itself.
    if options.asks_for_help() {
        let mut cargo = workspace.cargo(&["run", "--quiet", "--locked"]);
        cargo.args(["--package=statlink-tests", "--bin", program, "--", "--help"]);
        return Err(cargo.exec()).with_context(|| format!("start the {program}"));
    }
    setup::require_root(program)?;
    setup::ensure(setup::PEERS, workspace)?;
    let agent = build::agent(true, workspace)?;
    let parts: &[&str] = if program == BENCH {
        &["build", "api"]
    } else {
        &["build"]
    };
    test_bed(&["--release"], parts, workspace)?;
    // Its stand-ins run as processes of their own, from beside the program.
    let mut helpers =
        workspace.cargo(&["build", "--locked", "--release", "--package=statlink-tests"]);
    process::run("build the stand-ins", helpers.arg("--bins"))?;

    if program == BENCH {
        let mut hooks =
            workspace.cargo(&["bench", "--locked", "--package=statlink", "--bench=hooks"]);
        process::run("measure each program of the kernel half", &mut hooks)?;
    }
    let mut cargo = workspace.cargo(&[
        "run",
        "--quiet",
        "--locked",
        "--release",
        "--package=statlink-tests",
        "--bin",
        program,
        "--",
    ]);
    cargo.args(&options.arguments).env("STATLINK_BIN", agent);
    process::announce(program, &cargo);
    Err(cargo.exec()).with_context(|| format!("start the {program}"))
}

/// It has parts of its own: what a program costs is measured without the agent around it, and what
/// the watch of an API costs takes one.
const BENCH: &str = "bench";

/// Has `testbed` build what the test bed is made of. A second time is instant.
pub(crate) fn test_bed(profile: &[&str], arguments: &[&str], workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo(&["run", "--locked"]);
    cargo
        .args(profile)
        .args(["--package=statlink-tests", "--bin=testbed", "--"])
        .args(arguments);
    process::run("build the test bed", &mut cargo)
}
