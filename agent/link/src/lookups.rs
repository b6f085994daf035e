//! What name lookups tell: the rules of `dns`.
//!
//! A lookup that succeeds is followed by an attempt. That one failed is known by what does not
//! follow. But the same process may look up other names, and a client that backs off looks up
//! nothing of its own. So lookups since the link's last activity are the cause once
//!
//! - an attempt was due by them: [`ANSWERED`] after the first of them, and
//! - it was due by the client's back-off too: [`ANSWERED`] after the longest pause that it makes
//!   after as many failures,
//!
//! and there is none. They go on being the cause until there is one, or they stop for longer than
//! any pause.

use std::time::Duration;

use crate::{
    time::Timestamp,
    timings::{BACK_OFF_STEPS, LOOKUP_ANSWERED, longest_pause},
};

/// The name lookups of one activator.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lookups {
    /// The first since the last activity, or since a verdict.
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    /// Failed attempts since the link was reachable.
    failures: u32,
}

impl Lookups {
    /// There was one at `at`.
    pub(crate) fn looked_up(&mut self, at: Timestamp, last_activity: Timestamp) {
        if self.first.is_none_or(|first| first <= last_activity) {
            self.first = Some(at);
        }
        self.last = self.last.max(Some(at));
    }

    /// `n` attempts failed.
    pub(crate) fn failed(&mut self, n: u32) {
        self.failures = self.failures.saturating_add(n);
    }

    /// The link is reachable: the next pause is short.
    pub(crate) fn reachable(&mut self) {
        self.failures = 0;
    }

    /// The longest pause that the client makes after as many failures as there were.
    pub(crate) fn pause(&self) -> Duration {
        longest_pause(self.failures)
    }

    /// What they tell has been told: it takes new ones to tell more.
    pub(crate) fn judged(&mut self) {
        self.first = None;
        // How often the client has failed without a dial, and so how long it may pause, is not
        // known.
        self.failures = BACK_OFF_STEPS;
    }

    /// When they are the cause, if no attempt follows.
    pub(crate) fn due(&self, last_activity: Timestamp) -> Option<Timestamp> {
        let first = self.first.filter(|&first| first > last_activity)?;
        Some((last_activity + longest_pause(self.failures)).max(first) + LOOKUP_ANSWERED)
    }

    /// When they have stopped, if none follows.
    pub(crate) fn stopped_due(&self, last_activity: Timestamp) -> Timestamp {
        self.last
            .map_or(last_activity, |last| last.max(last_activity))
            + longest_pause(BACK_OFF_STEPS)
            + LOOKUP_ANSWERED
    }
}
