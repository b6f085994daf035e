//! statlink: whether each Knative activator is connected to the autoscaler, and why not.
//!
//! The core is [`link`], the pure state machine of one link, a crate of its own. The rest of the
//! agent is a shell around it: `kernel` and `discovery` report what happens and to whom, `run`
//! feeds the links and carries out their decisions, `telemetry`, `scrape`, `control` and `health`
//! show the result, `preflight` checks the machine beforehand, and `cli` is the command line.
//!
//! Public is what the binary, the benches and the test bed use.

mod chain;
pub mod cli;
pub mod clock;
mod control;
mod discovery;
#[cfg(test)]
mod fuzz;
mod health;
pub mod kernel;
mod link_event;
mod link_kind;
mod memory;
mod options;
mod preflight;
mod privileges;
mod run;
mod runbook;
mod scrape;
mod snapshot;
mod telemetry;
mod terminal;
mod warn_once;

pub use statlink_link::{self as link, time};
