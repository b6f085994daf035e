//! `statlink check`: whether the agent can work on this machine, before it has to.
//!
//! Everything is tried for real: hooks are attached for a moment, processes are inspected, the
//! Collector gets an empty request. Nothing stays behind.

mod capabilities;
mod cluster;
mod environment;
mod kernel;

use serde::{Deserialize, Serialize};

use crate::options::Options;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was checked.
    pub subject: String,
    /// Whether the agent can do with it.
    pub verdict: Verdict,
    /// What the agent needs it for.
    pub purpose: String,
    /// What was found.
    pub detail: String,
    /// What to do about it; absent if there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cure: Option<String>,
}

/// Whether the agent can do with what was found, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It can.
    Ok,
    /// The agent runs and lacks something.
    Warning,
    /// The agent runs, but cannot do what it is for.
    Failed,
    /// The agent does not start: the kernel lacks or denies what it cannot do without.
    Unsupported,
}

/// Checks everything, in the order in which the agent needs it. Must be called within a tokio
/// runtime, on the thread that called [`tracefs::show`](crate::kernel::tracefs::show).
pub async fn check(options: &Options) -> Vec<Finding> {
    let mut findings = kernel::check(&options.watch);
    findings.extend(capabilities::check(options.kubernetes.is_some()));
    let (api, discovery) = cluster::check(options).await;
    findings.extend(api);
    findings.extend(environment::clients(&discovery, &options.selector));
    findings.extend(environment::collector(&options.telemetry).await);
    let (socket, health) = (&options.socket, options.health_address);
    findings.extend(environment::sockets(socket, health));
    findings
}

impl Finding {
    fn new(subject: impl Into<String>, purpose: &str, detail: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            verdict: Verdict::Ok,
            purpose: purpose.to_owned(),
            detail: detail.into(),
            cure: None,
        }
    }

    fn with_verdict(mut self, verdict: Verdict, cure: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.cure = Some(cure.into());
        self
    }
}
