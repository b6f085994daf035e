//! `statlink check`: whether the agent can work on this machine, before it has to.
//!
//! Everything is tried for real: hooks are attached for a moment, processes are inspected, the
//! Collector gets an empty request. Nothing stays behind.

mod capabilities;
mod cluster;
mod environment;
mod finding;
mod kernel;

pub(crate) use self::finding::{Finding, Verdict};
use crate::{kernel::tracefs::Tracefs, options::Options};

/// Checks everything, in the order in which the agent needs it. Must be called within a tokio
/// runtime, on the thread that called [`tracefs::show`](crate::kernel::tracefs::show), which gave
/// `tracefs`.
pub(crate) async fn check(options: &Options, tracefs: &Tracefs) -> Vec<Finding> {
    let mut findings = kernel::check(&options.watch, tracefs);
    findings.extend(capabilities::check(options.kubernetes.is_some()));
    let (api, mut discovery) = cluster::check(options).await;
    findings.extend(api);
    findings.extend(environment::clients(&mut discovery, &options.selector));
    findings.extend(environment::collector(&options.telemetry).await);
    let (socket, health) = (&options.socket, options.health_address);
    findings.extend(environment::sockets(socket, health));
    findings
}
