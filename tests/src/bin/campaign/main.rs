//! The campaign: random faults between Knative's real client and server. What really happened is
//! known, and what the agent reports is judged against it.
//!
//! - [`catalogue`]: what can go wrong
//! - [`schedule`]: what happens when, from a seed
//! - [`site`]: the node, and a Kubernetes API that knows its pods
//! - [`lane`]: one activator and its autoscaler; how a fault is injected and healed there
//! - [`crash_loop`]: an activator that crashes again and again
//! - [`strangers`]: what is there beside it all, and may not be told
//! - [`truth`]: what the activator itself saw
//! - [`reported`], [`figures`]: what the agent reported
//! - [`judge`]: whether that is true; [`stalls`]: when the machine stood still
//! - [`shrink`]: a failure, reduced to its own window
//! - [`table`]: the closing table
//! - [`run`], [`stream`], [`window`]: the driver; [`former`]: activators that were ended
//! - [`report`]: what is printed and written at the end
//! - [`soak`], [`flap`]: runs without random faults, on a [`stage`]
//!
//! How to add a fault: see `tests/README.md`.

mod catalogue;
mod crash_loop;
mod figures;
mod flap;
mod former;
mod judge;
mod lane;
mod options;
mod report;
mod reported;
mod run;
mod schedule;
mod shrink;
mod site;
mod soak;
mod stage;
mod stalls;
mod strangers;
mod stream;
mod table;
mod truth;
mod window;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use statlink_tests::build;

use self::{options::Options, run::Run};

fn main() -> ExitCode {
    match campaign() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("campaign: the agent was wrong");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("campaign: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the agent was right in everything.
fn campaign() -> Result<bool> {
    let Options { plan, soak, flap } = Options::parse();
    if let Some(length) = soak {
        return soak::soak(length);
    }
    if let Some(length) = flap {
        return flap::flap(length);
    }
    println!("seed {}: the same again with --seed {0}", plan.seed);
    let directory = build::directory()?.join(format!("campaign-{}", plan.seed));
    Run::set(&plan, directory)?.run()
}
