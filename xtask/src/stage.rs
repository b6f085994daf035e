//! `cargo xtask demo`, `alerts`, `bench` and `campaign`: programs of the tests crate that run the
//! agent on the test bed. This file prepares what they need; that crate has what they show and
//! measure.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};

use crate::{build, image, process, setup, workspace::Workspace};

/// Arguments of `cargo xtask demo`, `alerts`, `bench` and `campaign`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Passed on unchanged; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Options {
    fn asks_for_help(&self) -> bool {
        self.has("--help") || self.has("-h")
    }

    /// Whether the bench measures everything, for a person.
    fn ask_for_all(&self) -> bool {
        let mut arguments = self.arguments.iter().map(|a| a.to_string_lossy());
        !arguments.any(|argument| {
            let mut parts = PARTS_OF_BENCH.iter();
            parts.any(|flag| argument.starts_with(flag))
        })
    }

    fn has(&self, flag: &str) -> bool {
        self.arguments.iter().any(|argument| argument == flag)
    }
}

/// Replaces this process by the program: signals reach it, and its exit code is ours.
pub(crate) fn run(program: &str, options: &Options, workspace: &Workspace) -> Result<()> {
    // Help needs only the program itself.
    if options.asks_for_help() {
        let mut cargo = workspace.cargo(&["run", "--quiet", "--locked"]);
        cargo.args(["--package=statlink-tests", "--bin", program, "--", "--help"]);
        return Err(cargo.exec()).with_context(|| format!("start the {program}"));
    }
    setup::require_root(program)?;
    setup::ensure(setup::PEERS, workspace)?;
    // Only for the demo.
    if options.has("--dashboard") {
        setup::ensure(setup::DASHBOARD, workspace)?;
    }
    // It runs the agent's image in a cluster.
    let image = if program == ALERTS {
        setup::ensure(setup::CLUSTER, workspace)?;
        Some(image::for_tests(workspace)?)
    } else {
        None
    };
    let agent = build::agent(true, workspace)?;
    let parts: &[&str] = match program {
        BENCH if !options.has("fleet") && !options.has("growth") => &["build", "api"],
        ALERTS => &["build", "cluster"],
        _ => &["build"],
    };
    test_bed(&["--release"], parts, workspace)?;
    // The program starts them from its own directory.
    let mut helpers =
        workspace.cargo(&["build", "--locked", "--release", "--package=statlink-tests"]);
    process::run("build the stand-ins", helpers.arg("--bins"))?;

    if program == BENCH && options.ask_for_all() {
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
    if let Some(image) = image {
        cargo.env("STATLINK_IMAGE", image);
    }
    process::announce(program, &cargo);
    Err(cargo.exec()).with_context(|| format!("start the {program}"))
}

/// It needs more than the others: it also measures each kernel program without the agent, and the
/// cost of watching a Kubernetes API.
const BENCH: &str = "bench";
const ALERTS: &str = "alerts";

/// Its arguments that leave out a part, measure something else, or require its output to be only JSON.
const PARTS_OF_BENCH: &[&str] = &["--only", "--vs", "--json", "fleet", "growth"];

/// Makes `testbed` build the parts of the test bed. A second run finds them built.
pub(crate) fn test_bed(profile: &[&str], arguments: &[&str], workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo(&["run", "--locked"]);
    cargo
        .args(profile)
        .args(["--package=statlink-tests", "--bin=testbed", "--"])
        .args(arguments);
    process::run("build the test bed", &mut cargo)
}

/// Makes it build peers and Collector for an architecture, by Go's name; returns its output.
pub(crate) fn parts(architecture: &str, workspace: &Workspace) -> Result<String> {
    let mut cargo = workspace.cargo(&["run", "--quiet", "--locked"]);
    cargo.args(["--package=statlink-tests", "--bin=testbed", "--", "parts"]);
    process::announce("build the peers", &cargo);
    process::capture(cargo.arg(architecture))
}
