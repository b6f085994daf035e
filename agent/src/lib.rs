//! statlink: whether each Knative activator is connected to the autoscaler, and why not.
//!
//! The heart is [`link`], the pure state machine of one link. Everything else is a shell around
//! it: [`kernel`] and [`discovery`] bring facts, `run` feeds them in and performs what the
//! links decide, [`telemetry`], [`control`] and [`health`] show the result; [`cli`] is the
//! command line over it all.

pub mod chain;
pub mod cli;
pub mod clock;
pub mod control;
pub mod discovery;
pub mod health;
pub mod kernel;
pub mod link_event;
pub mod link_kind;
pub mod options;
pub mod preflight;
mod privileges;
mod run;
pub mod snapshot;
pub mod telemetry;
mod warn_once;

pub use statlink_link::{self as link, time};
