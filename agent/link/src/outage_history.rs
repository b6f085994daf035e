//! What is remembered of an outage, of one link or several together, for the events at its begin
//! and end.

use std::collections::VecDeque;

use crate::{Cause, EndedOutage, FailedAttempt, limits::ATTEMPTS_REPORTED, time::Timestamp};

/// The last failed attempts, and how many errors had been counted before.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutageHistory {
    /// Oldest first.
    attempts: VecDeque<FailedAttempt>,
    errors_before: u64,
    /// Errors of the outage that the agent before this one counted.
    inherited: u64,
}

impl OutageHistory {
    /// The outage begins when this many errors were counted.
    pub(crate) fn begins(&mut self, errors: u64) {
        self.errors_before = errors;
        self.inherited = 0;
    }

    /// The agent before this one counted this many errors of it.
    pub(crate) fn inherit(&mut self, errors: u64) {
        self.inherited = errors;
    }

    pub(crate) fn remember(&mut self, failed: FailedAttempt) {
        if self.attempts.len() >= ATTEMPTS_REPORTED {
            self.attempts.pop_front();
        }
        self.attempts.push_back(failed);
    }

    /// The last failed attempts, oldest first.
    pub(crate) fn attempts(&self) -> Vec<FailedAttempt> {
        self.attempts.iter().copied().collect()
    }

    /// How many of these `errors` belong to the outage.
    pub(crate) fn errors(&self, errors: u64) -> u64 {
        (errors - self.errors_before).saturating_add(self.inherited)
    }

    /// The outage from `began` to `at` with this cause; `errors` is the count at its end.
    pub(crate) fn outage(
        &self,
        began: Timestamp,
        at: Timestamp,
        cause: Cause,
        errors: u64,
    ) -> EndedOutage {
        EndedOutage {
            duration: at.saturating_since(began),
            cause,
            errors: self.errors(errors),
            attempts: self.attempts(),
        }
    }

    /// The attempts will be reported anew.
    pub(crate) fn clear_attempts(&mut self) {
        self.attempts.clear();
    }

    /// The outage is over.
    pub(crate) fn clear(&mut self) {
        self.attempts.clear();
        self.inherited = 0;
    }
}
