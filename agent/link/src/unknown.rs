//! The unknown state: which evidence may be missing, and why.
//!
//! A live connection that the agent looks at is evidence enough, whatever else is missing. Without
//! one, a link with incomplete evidence is *unknown*: neither reachable nor unreachable.

use std::{collections::BTreeSet, fmt};

use crate::closed_list::closed_list;

closed_list! {
    /// Why the agent cannot tell whether a link is up.
    UnknownReason {
        /// The kernel half has no room for more connections of the client.
        NoRoom = "no_room",
        /// The client may have connections from before the agent, and this kernel cannot list them.
        NotListed = "not_listed",
        /// Events of the client may have been missed, and nothing shows what they were.
        EventsMissed = "events_missed",
        /// The client's connection bypasses TCP, whose counters then say nothing about it.
        Bypassed = "bypassed",
        /// The pod runs, and the agent sees no process of it to watch.
        NotObserved = "not_observed",
    }
}

impl UnknownReason {
    /// The reason in words that complete "unknown: …".
    pub const fn describe(self) -> &'static str {
        match self {
            Self::NoRoom => "the kernel half has no room for more of its connections",
            Self::NotListed => "connections from before the agent cannot be listed here",
            Self::EventsMissed => "events were missed, and nothing shows what they were",
            Self::Bypassed => "its connection is accelerated past TCP (sockmap)",
            Self::NotObserved => "no process of the pod can be watched",
        }
    }
}

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Every reason for which evidence may be missing now.
#[derive(Clone, Debug, Default)]
pub(crate) struct MissingEvidence(BTreeSet<UnknownReason>);

impl MissingEvidence {
    /// Evidence may now be missing for this reason, too.
    pub(crate) fn lost(&mut self, reason: UnknownReason) {
        self.0.insert(reason);
    }

    /// Evidence is no longer missing for this reason.
    pub(crate) fn back(&mut self, reason: UnknownReason) {
        self.0.remove(&reason);
    }

    /// The reason to show; `None` while nothing is missing.
    pub(crate) fn reason(&self) -> Option<UnknownReason> {
        self.0.first().copied()
    }

    pub(crate) fn reasons(&self) -> impl Iterator<Item = UnknownReason> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_words_of_its_own() {
        let words: BTreeSet<_> = UnknownReason::ALL.iter().map(|it| it.describe()).collect();
        assert_eq!(words.len(), UnknownReason::ALL.len());
        assert!(words.iter().all(|words| words.contains(' ')));
    }

    #[test]
    fn what_is_shown_is_a_reason_that_holds() {
        let mut missing = MissingEvidence::default();
        assert_eq!(missing.reason(), None);
        missing.lost(UnknownReason::EventsMissed);
        missing.lost(UnknownReason::NoRoom);
        assert_eq!(missing.reasons().count(), 2);
        missing.back(UnknownReason::NoRoom);
        assert_eq!(missing.reason(), Some(UnknownReason::EventsMissed));
        missing.back(UnknownReason::EventsMissed);
        assert_eq!(missing.reason(), None);
    }
}
