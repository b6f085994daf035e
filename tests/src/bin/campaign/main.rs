//! The campaign: random faults between Knative's real client and server. It knows what really
//! happened, and judges the agent's reports against that.
//!
//! - [`catalogue`]: the faults
//! - [`schedule`]: the steps of each lane, from a seed
//! - [`site`]: the node, and a Kubernetes API that knows its pods
//! - [`lane`]: one activator and its autoscaler; how a fault is injected and healed there
//! - [`crash_loop`]: an activator that crashes again and again
//! - [`strangers`]: processes that have nothing to do with any link, and must not be reported
//! - [`truth`]: what the activator itself saw
//! - [`reported`], [`figures`]: what the agent reported
//! - [`judge`]: whether that is true; [`stalls`]: when the machine stood still
//! - [`shrink`]: a failure, reduced to its own window
//! - [`table`]: the closing table
//! - [`run`], [`stream`], [`window`]: the driver; [`former`]: activators that were ended
//! - [`report`]: the output at the end
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

/// Returns whether the agent was right in everything.
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
