//! The result of one check.

use serde::{Deserialize, Serialize};

use crate::{
    kernel::Missing,
    runbook::{self, Page},
};

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// What was checked.
    pub subject: String,
    /// Whether the result is good enough for the agent.
    pub verdict: Verdict,
    /// What the agent needs it for.
    pub purpose: String,
    /// What was found.
    pub detail: String,
    /// What withholds it, if that was determined: the name of a
    /// [`Cause`](crate::kernel::refusal::Cause).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// What to do about it; absent if there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cure: Option<String>,
    /// The section of a runbook; absent if there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub runbook: Option<String>,
}

/// Whether the result is good enough for the agent; from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Good enough.
    Ok,
    /// The agent runs without something optional.
    Warning,
    /// The agent runs, but cannot do its main task.
    Failed,
    /// The agent does not start: the kernel lacks or denies something that it needs.
    Unsupported,
}

impl Finding {
    pub(super) fn new(
        subject: impl Into<String>,
        purpose: &str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            subject: subject.into(),
            verdict: Verdict::Ok,
            purpose: purpose.to_owned(),
            detail: detail.into(),
            cause: None,
            cure: None,
            runbook: None,
        }
    }

    pub(super) fn with_verdict(mut self, verdict: Verdict, cure: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.cure = Some(cure.into());
        self.runbook = Some(self.page().url());
        self
    }

    /// The section about this problem, if there is one.
    fn page(&self) -> Page {
        let is_about = |words: &[&str]| words.iter().any(|word| self.subject.starts_with(word));
        if is_about(&["Collector"]) {
            runbook::NO_SERIES
        } else if is_about(&["Kubernetes"]) {
            runbook::NOT_READY
        } else if is_about(&["not watched", "processes"]) {
            runbook::NO_LINK
        } else if is_about(&["hook"]) && self.verdict == Verdict::Warning {
            runbook::INCOMPLETE
        } else {
            runbook::DOES_NOT_START
        }
    }

    /// Adds why the kernel refuses it.
    pub(super) fn withheld(mut self, verdict: Verdict, missing: &Missing) -> Self {
        self.cause = Some(missing.cause.name().to_owned());
        self.with_verdict(verdict, missing.cure.clone())
    }
}
