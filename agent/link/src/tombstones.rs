//! Tombstones of ended connections: a repeated or late record of one changes nothing.

use std::collections::VecDeque;

use crate::{ConnectionId, limits::TOMBSTONES, time::Timestamp};

/// The last connections that ended, and a watermark for all earlier ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tombstones {
    recent: VecDeque<ConnectionId>,
    /// The newest birth among those that are no longer remembered one by one.
    watermark: Option<Timestamp>,
}

impl Tombstones {
    /// Marks `connection` as over.
    pub(crate) fn bury(&mut self, connection: ConnectionId) {
        if self.recent.len() >= TOMBSTONES
            && let Some(oldest) = self.recent.pop_front()
        {
            self.watermark = self.watermark.max(Some(oldest.born));
        }
        self.recent.push_back(connection);
    }

    /// Whether this very connection is remembered as over.
    pub(crate) fn holds(&self, connection: ConnectionId) -> bool {
        self.recent.contains(&connection)
    }

    /// Whether to ignore a record of `connection`, which is not tracked: it is over, or so old that
    /// its tombstone is gone.
    pub(crate) fn covers(&self, connection: ConnectionId) -> bool {
        self.watermark >= Some(connection.born) || self.holds(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(n: u64) -> ConnectionId {
        ConnectionId {
            sock: n,
            born: Timestamp::from_nanos(n),
        }
    }

    #[test]
    fn the_newest_are_remembered_one_by_one_and_the_rest_by_birth() {
        let mut tombstones = Tombstones::default();
        for n in (10..10_000).step_by(10) {
            tombstones.bury(connection(n));
        }
        assert_eq!(tombstones.recent.len(), TOMBSTONES);
        assert!(tombstones.covers(connection(10)) && !tombstones.holds(connection(10)));
        assert!(tombstones.holds(connection(9_990)));
        assert!(
            tombstones.covers(connection(5)),
            "older than what was forgotten"
        );
        assert!(
            !tombstones.covers(connection(9_985)),
            "younger, and never seen"
        );
    }
}
