//! Whether the kernel half knows all connections of a link's client.
//!
//! A client that opens more connections than its quota cannot be followed completely: nobody knows
//! what became of the refused ones. Its link is told so, and told again when that is over. Once
//! there is room, one pass over the open files finds what was left out. While there is none, no
//! pass is made: its connections would be refused again.

use std::time::Duration;

use statlink_ebpf::limits::CONNECTIONS_OF_A_SOURCE;

use crate::{
    link::{Input, UnknownReason},
    time::Timestamp,
};

/// The state for one link's client.
#[derive(Debug, Default)]
pub(super) struct Completeness {
    /// How many refused connections a pass has found since.
    made_good: u32,
    /// How many had been refused when the open files were last read.
    read_at: Option<u32>,
    /// When to look for room again; `None` while all connections are known.
    look: Option<Timestamp>,
}

impl Completeness {
    /// The kernel half has refused `refused` connections by `now`. Returns an input for the link if
    /// that changes anything.
    pub(super) fn refused(&mut self, refused: u32, now: Timestamp) -> Option<Input> {
        if refused == self.made_good || self.look.is_some() {
            return None;
        }
        self.look = Some(now + LOOK);
        Some(Input::EvidenceLost(UnknownReason::NoRoom))
    }

    /// When to look for room; `None` while all connections are known.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.look
    }

    /// Whether to make a pass over the open files `now`, with `held` connections in the map: where
    /// the quota is nearly full, they would be refused again.
    pub(super) fn is_pass_due(&mut self, held: u32, now: Timestamp) -> bool {
        let due = self.look.is_some_and(|at| at <= now);
        if due {
            self.look = Some(now + LOOK);
        }
        due && held <= WORTH_A_PASS
    }

    /// A pass over the open files begins.
    pub(super) fn pass_begins(&mut self, refused: u32) {
        self.read_at = Some(refused);
    }

    /// The link has got the result of a pass. Returns an input for the link if that changes
    /// anything.
    pub(super) fn pass_ends(&mut self, refused: u32, now: Timestamp) -> Option<Input> {
        if self.read_at.take() != Some(refused) {
            return self.refused(refused, now);
        }
        self.made_good = refused;
        self.look
            .take()
            .map(|_| Input::EvidenceBack(UnknownReason::NoRoom))
    }
}

/// How often to look for room: as often as a link is checked.
const LOOK: Duration = Duration::from_secs(5);
/// A pass is worth making with this many connections held: half of the quota is free.
const WORTH_A_PASS: u32 = (CONNECTIONS_OF_A_SOURCE.reserved + CONNECTIONS_OF_A_SOURCE.shared) / 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn lost() -> Option<Input> {
        Some(Input::EvidenceLost(UnknownReason::NoRoom))
    }

    fn back() -> Option<Input> {
        Some(Input::EvidenceBack(UnknownReason::NoRoom))
    }

    #[test]
    fn a_full_quota_is_told_once_until_a_pass_finds_everything() {
        let mut known = Completeness::default();
        assert_eq!(known.refused(0, at(1)), None);
        assert_eq!(known.refused(3, at(1)), lost());
        assert_eq!(known.refused(9, at(2)), None);
        known.pass_begins(9);
        assert_eq!(known.pass_ends(9, at(3)), back());
        assert_eq!((known.refused(9, at(4)), known.next()), (None, None));
        assert_eq!(known.refused(10, at(5)), lost());
    }

    #[test]
    fn a_pass_that_is_refused_itself_finds_not_everything() {
        let mut known = Completeness::default();
        assert_eq!(known.refused(3, at(1)), lost());
        known.pass_begins(3);
        assert_eq!(known.pass_ends(40, at(2)), None);
        // Neither does a pass that reads no open files.
        assert_eq!(known.pass_ends(40, at(3)), None);
        assert!(known.next().is_some());
    }

    #[test]
    fn what_was_refused_before_the_first_pass_is_made_good_by_it_untold() {
        let mut known = Completeness::default();
        known.pass_begins(5);
        assert_eq!(known.pass_ends(5, at(1)), None);
        assert_eq!(known.refused(5, at(2)), None);
        let mut full = Completeness::default();
        full.pass_begins(5);
        assert_eq!(full.pass_ends(900, at(1)), lost());
    }

    #[test]
    fn no_pass_is_made_while_there_is_no_room() {
        let mut known = Completeness::default();
        assert_eq!(known.refused(900, at(1)), lost());
        let full = CONNECTIONS_OF_A_SOURCE.reserved + CONNECTIONS_OF_A_SOURCE.shared;
        assert!(!known.is_pass_due(0, at(5)), "too early");
        for second in 6..100 {
            assert!(!known.is_pass_due(full, at(second)));
        }
        let due: Vec<_> = (100..110)
            .filter(|now| known.is_pass_due(3, at(*now)))
            .collect();
        assert_eq!(due.len(), 2, "one in 5 s: {due:?}");
    }
}
