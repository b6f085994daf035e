//! When failing name lookups are the cause: the rules of `dns`.
//!
//! The agent sees that a name server is asked, but not the answer. A lookup that succeeds is
//! followed by an attempt, so a missing attempt shows that it failed. Two things could mislead: the
//! same process may look up other names, and a client that pauses between two dials dials nothing.
//! So lookups since the link's last activity are the cause if no attempt follows within
//!
//! - [`LOOKUP_ANSWERED`] after the first of them, and
//! - [`LOOKUP_ANSWERED`] after the client's longest pause for its number of failures.
//!
//! They stay the cause until there is an attempt, or until they stop for longer than any pause.

use std::time::Duration;

use crate::{
    time::Timestamp,
    timings::{BACK_OFF_STEPS, LOOKUP_ANSWERED, longest_pause},
};

/// The name lookups of one client.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lookups {
    /// The first since the last activity, or since a verdict.
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    /// Failed attempts since the link was reachable.
    failures: u32,
}

impl Lookups {
    /// A lookup was seen at `at`.
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

    /// The client's longest pause for its number of failures.
    pub(crate) fn pause(&self) -> Duration {
        longest_pause(self.failures)
    }

    /// The lookups, or something else, got the blame: from here on only new ones count.
    pub(crate) fn judged(&mut self) {
        self.first = None;
        // Nobody knows how often the client has failed without a dial, and so how long it may
        // pause.
        self.failures = BACK_OFF_STEPS;
    }

    /// When they become the cause, if no attempt follows.
    pub(crate) fn due(&self, last_activity: Timestamp) -> Option<Timestamp> {
        let first = self.first.filter(|&first| first > last_activity)?;
        Some((last_activity + longest_pause(self.failures)).max(first) + LOOKUP_ANSWERED)
    }

    /// When they count as stopped, if no more follow.
    pub(crate) fn stopped_due(&self, last_activity: Timestamp) -> Timestamp {
        self.last
            .map_or(last_activity, |last| last.max(last_activity))
            + longest_pause(BACK_OFF_STEPS)
            + LOOKUP_ANSWERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lookups_since_the_last_activity_are_a_cause() {
        let at = Timestamp::from_nanos;
        let mut lookups = Lookups::default();
        lookups.looked_up(at(5), at(4));
        assert!(lookups.due(at(4)).is_some());
        assert!(lookups.due(at(5)).is_none());
    }
}
