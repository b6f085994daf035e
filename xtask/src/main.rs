//! The commands of the project, one module each. CI runs exactly these, so that one line
//! reproduces a red job.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod arch;
mod bpf;
mod build;
mod chart;
mod fuzz;
mod image;
mod lint;
mod process;
mod remap;
mod setup;
mod stage;
mod test;
mod vm;
mod workspace;

use workspace::Workspace;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what the other commands need; each of them also installs its own needs
    Setup(setup::Options),
    /// Build the agent, kernel half included
    Build(build::Options),
    /// Copy rules and dashboards into the chart
    Chart,
    /// Write the container image, without a container engine
    Image(image::Options),
    /// Run the tests, tier by tier
    Test(test::Options),
    /// Boot another kernel in an emulated guest, for a prompt or for one command
    Vm(vm::Options),
    /// Look for input that breaks a reader, for as long as you like
    Fuzz(fuzz::Options),
    /// Show statlink at work on real Knative parts, on this machine
    Demo(stage::Options),
    /// Break a Kubernetes of one node in every way, and measure how long each alert takes (half an hour)
    Alerts(stage::Options),
    /// Measure the figures the project promises
    Bench(stage::Options),
    /// Inject random faults and compare what the agent exports with the truth
    #[command(disable_help_flag = true)]
    Campaign(stage::Options),
    /// Check formatting, code, documents, licences and the direction of imports
    Lint(lint::Options),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let result = Workspace::find().and_then(|workspace| match command {
        Command::Setup(options) => setup::run(&options, &workspace),
        Command::Build(options) => build::run(&options, &workspace),
        Command::Chart => chart::run(&workspace),
        Command::Image(options) => image::run(&options, &workspace),
        Command::Test(options) => test::run(&options, &workspace),
        Command::Vm(options) => vm::run(&options, &workspace),
        Command::Fuzz(options) => fuzz::run(&options, &workspace),
        Command::Demo(options) => stage::run("demo", &options, &workspace),
        Command::Alerts(options) => stage::run("alerts", &options, &workspace),
        Command::Bench(options) => stage::run("bench", &options, &workspace),
        Command::Campaign(options) => stage::run("campaign", &options, &workspace),
        Command::Lint(options) => lint::run(&options, &workspace),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
