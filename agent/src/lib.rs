//! statlink: whether each Knative activator is connected to the autoscaler, and why not.
//!
//! The heart is [`link`], the pure state machine of one link. Everything else is a shell around
//! it.

pub mod health;
pub mod link;
pub mod report;
pub mod snapshot;
pub mod telemetry;
pub mod time;
