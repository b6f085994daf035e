//! `statlink check`: whether the agent can work on this machine, before it runs there.
//!
//! Everything is really tried: hooks are attached for a moment, processes are inspected, the
//! Collector gets an empty request. Nothing stays behind.

mod capabilities;
mod cluster;
mod environment;
mod finding;
mod kernel;

use self::environment::Listen;
pub(crate) use self::finding::{Finding, Verdict};
use crate::{kernel::tracefs::Tracefs, options::Options};

/// Checks everything, in the order in which the agent needs it. Must be called within a tokio
/// runtime, on the thread that called [`tracefs::show`](crate::kernel::tracefs::show), which gave
/// `tracefs`.
pub(crate) async fn check(options: &Options, tracefs: &Tracefs) -> Vec<Finding> {
    let mut findings = kernel::check(&options.watch, tracefs);
    findings.extend(options.pin_directory.as_deref().map(kernel::pins));
    findings.extend(capabilities::check(options.kubernetes.is_some()));
    let (api, mut discovery) = cluster::check(options).await;
    findings.extend(api);
    findings.extend(environment::clients(&mut discovery, &options.selector));
    findings.extend(environment::collector(&options.telemetry).await);
    let addresses = [
        Listen {
            name: "health address",
            purpose: "answer probes",
            flag: "--health-address",
            address: options.health_address,
        },
        Listen {
            name: "metrics address",
            purpose: "be scraped",
            flag: "--metrics-address",
            address: options.metrics_address,
        },
    ];
    findings.extend(environment::sockets(&options.socket, &addresses));
    findings
}
