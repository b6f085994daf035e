//! statlink: whether each Knative activator is connected to the autoscaler, and why not.
//!
//! The heart is [`link`], the pure state machine of one link. Everything else is a shell around
//! it.

pub mod kernel;
pub mod link;
pub mod report;
pub mod snapshot;
pub mod time;
