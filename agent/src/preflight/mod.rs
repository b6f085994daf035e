//! `statlink check`: whether the agent can do its work here, told before it has to.
//!
//! Everything is tried for real: hooks are attached for a moment, processes looked at, the
//! Collector sent an empty request. Nothing stays behind.

mod capabilities;
mod cluster;
mod kernel;
mod surroundings;

use serde::{Deserialize, Serialize};

use crate::options::Options;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub subject: String,
    /// How it is.
    pub verdict: Verdict,
    /// What the agent needs it for.
    pub purpose: String,
    /// What was seen.
    pub detail: String,
    /// What to do about it; absent where nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cure: Option<String>,
}

/// How a thing is, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The agent runs, with something lost.
    Warning,
    /// The agent runs, and what it is for does not work.
    Failed,
    /// The kernel lacks what the agent cannot do without: it would not start.
    Unsupported,
}

/// Looks at everything, in the order in which the agent needs it. Must be called within a tokio
/// runtime, and by a thread that saw tracefs if there is one to be seen.
pub async fn check(options: &Options) -> Vec<Finding> {
    let mut findings = kernel::check(&options.watch);
    findings.extend(capabilities::check(options.kubernetes.is_some()));
    let (api, discovery) = cluster::check(options).await;
    findings.extend(api);
    findings.extend(surroundings::diallers(&discovery, &options.selector));
    findings.extend(surroundings::collector(&options.telemetry).await);
    let (socket, health) = (&options.socket, options.health_address);
    findings.extend(surroundings::sockets(socket, health));
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

    fn but(mut self, verdict: Verdict, cure: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.cure = Some(cure.into());
        self
    }
}
