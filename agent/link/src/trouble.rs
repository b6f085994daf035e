//! What is remembered since a link, or several together, were reachable: for the story of an
//! outage, told at both of its ends.

use std::collections::VecDeque;

use super::{Cause, EndedOutage, FailedAttempt};
use crate::time::Timestamp;

/// The last failed attempts, and how many errors had been counted before.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    /// Oldest first.
    attempts: VecDeque<FailedAttempt>,
    errors_before: u64,
}

impl Trouble {
    /// It begins with so many errors counted.
    pub(super) fn begins(&mut self, errors: u64) {
        self.errors_before = errors;
    }

    pub(super) fn remember(&mut self, failed: FailedAttempt) {
        if self.attempts.len() >= ATTEMPTS_REPORTED {
            self.attempts.pop_front();
        }
        self.attempts.push_back(failed);
    }

    /// The last failed attempts, oldest first.
    pub(super) fn attempts(&self) -> Vec<FailedAttempt> {
        self.attempts.iter().copied().collect()
    }

    /// How many of these `errors` are its own.
    pub(super) fn errors(&self, errors: u64) -> u64 {
        errors - self.errors_before
    }

    /// The outage that began at `began`, for `cause`, and is over at `at`, with so many `errors`
    /// counted by then.
    pub(super) fn outage(
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

    /// It is over.
    pub(super) fn clear(&mut self) {
        self.attempts.clear();
    }
}

/// How many failed attempts an [`EventKind::Unreachable`](super::EventKind::Unreachable) or an
/// [`EndedOutage`] tells of.
pub const ATTEMPTS_REPORTED: usize = 3;
