//! Processes with a client's name that have no link: they wait for the API to name them, or were
//! refused.

use std::{collections::BTreeMap, time::Duration};

use super::error::UNPLACED;
use crate::time::Timestamp;

/// The strangers. Bounded, because anybody can start any number of processes.
#[derive(Debug, Default)]
pub(super) struct Strangers(BTreeMap<u32, Stranger>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stranger {
    stands: Stands,
    /// The client that holds the stranger's name. Once it has ended, the stranger may get the name.
    behind: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// Until then, the API may name it.
    Waits(Timestamp),
    /// It gets no link, for this reason: a value of [`REASONS`].
    Refused(&'static str),
}

/// Why a process with a client's name has no link: the values of `statlink.refusal.reason`.
pub(super) const REASONS: [&str; 7] = [
    "bad_name",
    "denied",
    "name_taken",
    "no_room",
    "other_namespace",
    "too_many",
    "unplaced",
];

impl Strangers {
    /// Process `pid` cannot be placed at `now`. Returns whether the API may still name it. `behind`
    /// is the client whose pod it may belong to.
    pub(super) fn waits(&mut self, pid: u32, behind: Option<u32>, now: Timestamp) -> bool {
        match self.0.get(&pid).map(|it| it.stands) {
            Some(Stands::Waits(until)) => now < until,
            Some(Stands::Refused(UNPLACED)) => false,
            // A process that was refused for another reason waits from now on.
            Some(Stands::Refused(_)) | None => {
                // A process without room here is found again by the next scan.
                self.insert(pid, Stands::Waits(now + NEWS), behind);
                true
            }
        }
    }

    /// Process `pid` gets no link. `behind` is the client that holds its name.
    pub(super) fn refuse(&mut self, pid: u32, reason: &'static str, behind: Option<u32>) {
        self.insert(pid, Stands::Refused(reason), behind);
    }

    /// Process `pid` has a link, or is no stranger.
    pub(super) fn forget(&mut self, pid: u32) {
        self.0.remove(&pid);
    }

    /// Forgets all but these.
    pub(super) fn retain(&mut self, pids: &[u32]) {
        self.0.retain(|pid, _| pids.binary_search(pid).is_ok());
    }

    /// Why this process has no link, if it was refused one.
    pub(super) fn reason(&self, pid: u32) -> Option<&'static str> {
        match self.0.get(&pid)?.stands {
            Stands::Waits(_) => None,
            Stands::Refused(reason) => Some(reason),
        }
    }

    /// All of them, in the order of their ids.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }

    /// The strangers that this client blocked.
    pub(super) fn behind(&self, client: u32) -> Vec<u32> {
        self.pids_where(|it| it.behind == Some(client))
    }

    /// The strangers that the API has not named in time.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<u32> {
        self.pids_where(|it| matches!(it.stands, Stands::Waits(until) if until <= now))
    }

    /// When the next stranger is overdue.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = self.0.values().filter_map(|it| match it.stands {
            Stands::Waits(until) => Some(until),
            Stands::Refused(_) => None,
        });
        deadlines.min()
    }

    /// The number of refused strangers by reason.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let of = |reason: &'static str| {
            let refused = self.0.values();
            let refused = refused.filter(|it| it.stands == Stands::Refused(reason));
            (reason, refused.count() as u64)
        };
        REASONS.into_iter().map(of).collect()
    }

    fn pids_where(&self, holds: impl Fn(&Stranger) -> bool) -> Vec<u32> {
        let all = self.0.iter().filter(|(_, it)| holds(it));
        all.map(|(pid, _)| *pid).collect()
    }

    fn insert(&mut self, pid: u32, stands: Stands, behind: Option<u32>) {
        if self.0.len() < MOST || self.0.contains_key(&pid) {
            self.0.insert(pid, Stranger { stands, behind });
        }
    }
}
/// The reason of processes for which the kernel half has no room.
pub(super) const NO_ROOM: &str = "no_room";
/// How long the API may take to name a process. If a control group shows only a container's id, the
/// kubelet must report that first: it does within two seconds, and again every ten (`syncPeriod` of
/// its `status_manager.go`).
pub(crate) const NEWS: Duration = Duration::from_secs(10);
/// More processes than this with a client's name on one node are an attack, and a count of a
/// thousand shows it.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_process_waits_once() {
        let mut strangers = Strangers::default();
        assert!(strangers.waits(7, None, s(1)));
        assert_eq!(strangers.next_deadline(), Some(s(11)));
        assert!(strangers.waits(7, None, s(5)) && strangers.overdue(s(10)).is_empty());
        assert_eq!(strangers.overdue(s(11)), [7]);
        assert!(!strangers.waits(7, None, s(11)));
        strangers.refuse(7, UNPLACED, None);
        assert!(!strangers.waits(7, None, s(12)));
        assert_eq!(strangers.next_deadline(), None);
        // Another process may get its id.
        strangers.retain(&[]);
        assert!(strangers.waits(7, None, s(13)));
    }

    #[test]
    fn every_reason_is_counted_and_those_that_are_gone_are_not() {
        let mut strangers = Strangers::default();
        for (pid, reason) in (1..).zip(REASONS) {
            strangers.refuse(pid, reason, None);
        }
        assert!(strangers.counts().iter().all(|(_, count)| *count == 1));
        strangers.retain(&[1]);
        let total: u64 = strangers.counts().iter().map(|(_, count)| count).sum();
        assert_eq!((strangers.reason(1), total), (Some(REASONS[0]), 1));
    }

    #[test]
    fn any_number_of_strangers_takes_little_memory_and_time() {
        let mut strangers = Strangers::default();
        for pid in 0..100_000 {
            strangers.waits(pid, None, s(1));
            strangers.refuse(pid + 100_000, "too_many", None);
        }
        assert_eq!(strangers.0.len(), MOST);
    }
}
