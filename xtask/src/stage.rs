//! `cargo xtask demo`, `alerts`, `bench` and `campaign`: programs of the tests crate that put the agent on
//! the test bed. What they need is prepared here; what they show and measure is in that crate.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};

use crate::{build, image, process, setup, workspace::Workspace};

/// Arguments of `cargo xtask demo`, `alerts`, `bench` and `campaign`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Passed on as they are; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Options {
    fn asks_for_help(&self) -> bool {
        self.has("--help") || self.has("-h")
    }

    /// Whether the bench is to measure everything, for people.
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
    // Help needs nothing but the program itself.
    if options.asks_for_help() {
        let mut cargo = workspace.cargo(&["run", "--quiet", "--locked"]);
        cargo.args(["--package=statlink-tests", "--bin", program, "--", "--help"]);
        return Err(cargo.exec()).with_context(|| format!("start the {program}"));
    }
    setup::require_root(program)?;
    setup::ensure(setup::PEERS, workspace)?;
    // Of the demo alone.
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
        BENCH => &["build", "api"],
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

/// It needs more than the others: it also measures each kernel program without the agent, and what
/// watching a Kubernetes API costs.
const BENCH: &str = "bench";
const ALERTS: &str = "alerts";

/// Flags of it that leave out a part, or want its output to be JSON and nothing else.
const PARTS_OF_BENCH: &[&str] = &["--only", "--vs", "--json"];

/// Has `testbed` build the parts of the test bed. A second run finds them built.
pub(crate) fn test_bed(profile: &[&str], arguments: &[&str], workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo(&["run", "--locked"]);
    cargo
        .args(profile)
        .args(["--package=statlink-tests", "--bin=testbed", "--"])
        .args(arguments);
    process::run("build the test bed", &mut cargo)
}

/// Has it build peers and Collector for an architecture, as Go calls it; gives what it prints.
pub(crate) fn parts(architecture: &str, workspace: &Workspace) -> Result<String> {
    let mut cargo = workspace.cargo(&["run", "--quiet", "--locked"]);
    cargo.args(["--package=statlink-tests", "--bin=testbed", "--", "parts"]);
    process::announce("build the peers", &cargo);
    process::capture(cargo.arg(architecture))
}
