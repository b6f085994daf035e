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

use crate::time::Timestamp;

/// The name lookups of one activator.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lookups {
    /// The first since the last activity, or since a verdict.
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    /// Failed attempts since the link was reachable.
    failures: u32,
}

impl Lookups {
    /// There was one at `at`.
    pub(super) fn looked_up(&mut self, at: Timestamp, last_activity: Timestamp) {
        if self.first.is_none_or(|first| first <= last_activity) {
            self.first = Some(at);
        }
        self.last = self.last.max(Some(at));
    }

    /// `n` attempts failed.
    pub(super) fn failed(&mut self, n: u32) {
        self.failures = self.failures.saturating_add(n);
    }

    /// The link is reachable: the next pause is short.
    pub(super) fn reachable(&mut self) {
        self.failures = 0;
    }

    /// The longest pause that the client makes after as many failures as there were.
    pub(super) fn pause(&self) -> Duration {
        longest_pause(self.failures)
    }

    /// What they tell has been told: it takes new ones to tell more.
    pub(super) fn judged(&mut self) {
        self.first = None;
        // How often the client has failed without a dial, and so how long it may pause, is not
        // known.
        self.failures = STEPS;
    }

    /// When they are the cause, if no attempt follows.
    pub(super) fn due(&self, last_activity: Timestamp) -> Option<Timestamp> {
        let first = self.first.filter(|&first| first > last_activity)?;
        Some((last_activity + longest_pause(self.failures)).max(first) + ANSWERED)
    }

    /// When they have stopped, if none follows.
    pub(super) fn stopped_due(&self, last_activity: Timestamp) -> Timestamp {
        self.last
            .map_or(last_activity, |last| last.max(last_activity))
            + longest_pause(STEPS)
            + ANSWERED
    }
}

/// The longest pause of Knative's client after so many failures in a row: 100 ms, 1.3 times as
/// much with each, and up to half of it again. It begins anew after [`STEPS`].
pub(super) fn longest_pause(failures: u32) -> Duration {
    (0..failures.min(STEPS)).fold(FIRST_PAUSE, |pause, _| pause * 13 / 10)
}

const FIRST_PAUSE: Duration = Duration::from_millis(150);
pub(super) const STEPS: u32 = 19;
/// How long a lookup may take that succeeds: 4 s and a little. The client's dial has 3 s for it.
const ANSWERED: Duration = Duration::from_millis(4_500);
