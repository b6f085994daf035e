//! What pods have counted, beyond the life of one process.
//!
//! A series belongs to a pod, and a pod's client may be several processes: one after the other, as
//! its container is restarted, or two at once. What each counts begins at 0. So the ledger keeps an
//! account for each series, to which a process's counts are added when it ends, and what is shown
//! is the account and all present processes together. It never falls.
//!
//! An account outlives its pod: its last counts have to reach the Collector, which may be away, and
//! the next process of that name goes on from there. It is closed at last, see [`KEPT`] and
//! [`MOST_DEPARTED`].
//!
//! Pure: the time is an argument.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    link::{Cause, Legacy},
    memory::{KEPT, Pod, Process, ProcessId, Tally},
    snapshot::{Departed, PodCounts, SeriesName},
    time::Timestamp,
};

/// The accounts of all pods.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    accounts: BTreeMap<SeriesName, Account>,
}

/// What is kept of one pod.
#[derive(Debug)]
struct Account {
    /// Its pod's uid; `None` where it is not known. A later pod of the same name has another.
    uid: Option<String>,
    /// What its lives counted that have ended; the number of lives has the present ones, too.
    settled: PodCounts,
    /// Its processes now.
    present: usize,
    /// Why the life that ended last was never reachable, if it was not.
    unreached: Option<Cause>,
    /// When it had a process last, or the Kubernetes API still listed it.
    last_seen: Timestamp,
    /// The same as a successor is told it.
    seen_for_successor: Timestamp,
    /// When it was opened.
    opened: Timestamp,
    /// The same for the Collector, in nanoseconds since the Unix epoch, once it was asked for.
    series_began: Option<u64>,
    /// Processes that the agent before this one watched, and this one has not found yet.
    awaited: Vec<Process>,
}

impl Ledger {
    /// A process of this pod was discovered. If it follows one that was never reachable, tells why
    /// that was not.
    pub(super) fn begin(
        &mut self,
        name: SeriesName,
        uid: Option<&str>,
        now: Timestamp,
    ) -> Option<Cause> {
        let account = self.accounts.entry(name).or_insert_with(|| Account {
            uid: None,
            settled: PodCounts::default(),
            present: 0,
            unreached: None,
            last_seen: now,
            seen_for_successor: now,
            opened: now,
            series_began: None,
            awaited: Vec::new(),
        });
        if account.is_of_another(uid) {
            account.uid = None;
            account.unreached = None;
        }
        account.learn(uid);
        account.settled.lives += 1;
        account.present += 1;
        account.last_seen = now;
        account.unreached.filter(|_| account.present == 1)
    }

    /// A process of this pod has ended, and had counted this much; `unreached` says why it was never
    /// reachable, if it was not.
    pub(super) fn end(
        &mut self,
        name: &SeriesName,
        uid: Option<&str>,
        counted: &PodCounts,
        unreached: Option<Cause>,
        now: Timestamp,
    ) {
        if let Some(account) = self.accounts.get_mut(name) {
            account.learn(uid);
            account.settled.add(counted);
            account.present = account.present.saturating_sub(1);
            account.unreached = unreached;
            account.last_seen = now;
        }
    }

    /// What this pod's ended processes have counted.
    pub(super) fn settled(&self, name: &SeriesName) -> PodCounts {
        let account = self.accounts.get(name);
        account.map_or_else(PodCounts::default, |account| account.settled.clone())
    }

    /// The pods that have no process left.
    pub(super) fn departed(&self) -> Vec<Departed> {
        let accounts = self.accounts.iter();
        accounts
            .filter(|(_, account)| !account.may_have_a_process())
            .map(|(name, account)| Departed {
                name: name.clone(),
                total: account.settled.clone(),
            })
            .collect()
    }

    /// Closes accounts whose time has come; `is_listed` says whether the Kubernetes API lists the
    /// pod of a uid, so that it may have a process again.
    pub(super) fn close_old(&mut self, now: Timestamp, is_listed: impl Fn(&str) -> bool) {
        for account in self.accounts.values_mut() {
            let listed = account.uid.as_deref().is_some_and(&is_listed);
            if account.may_have_a_process() || listed {
                account.last_seen = now;
            }
        }
        self.accounts
            .retain(|_, account| now.saturating_since(account.last_seen) <= KEPT);
        let gone = |account: &Account| !account.may_have_a_process() && account.last_seen < now;
        let departed = self.accounts.values().filter(|it| gone(it)).count();
        for _ in MOST_DEPARTED..departed {
            let accounts = self.accounts.iter().filter(|(_, it)| gone(it));
            let oldest = accounts.min_by_key(|(_, it)| it.last_seen);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.accounts.remove(&oldest);
            }
        }
    }
}

/// From one agent to the next.
impl Ledger {
    /// Goes on with what the agent before this one knew of a pod.
    pub(super) fn restore(&mut self, pod: Pod) {
        let account = Account {
            uid: pod.uid,
            settled: PodCounts::from(&pod.total),
            present: 0,
            unreached: pod.unreached,
            last_seen: pod.last_seen,
            seen_for_successor: pod.last_seen,
            opened: pod.last_seen,
            series_began: Some(pod.series_began),
            awaited: pod.processes,
        };
        self.accounts.insert(pod.name, account);
    }

    /// A process of this pod was discovered. If the agent before this one had watched it, it is no
    /// new life, and what its link has to know is given.
    pub(super) fn resume(
        &mut self,
        name: &SeriesName,
        uid: Option<&str>,
        process: ProcessId,
        now: Timestamp,
    ) -> Option<Legacy> {
        let account = self.accounts.get_mut(name)?;
        let mut awaited = account.awaited.iter();
        let at = awaited.position(|awaited| awaited.id == process)?;
        let resumed = account.awaited.swap_remove(at);
        account.learn(uid);
        account.present += 1;
        account.last_seen = now;
        Some(resumed.legacy)
    }

    /// Ceases to await processes that are not there any more: they ended while no agent watched.
    pub(super) fn await_only(&mut self, is_alive: impl Fn(ProcessId) -> bool) {
        for account in self.accounts.values_mut() {
            let awaited = std::mem::take(&mut account.awaited);
            let (alive, ended): (Vec<_>, Vec<_>) = awaited
                .into_iter()
                .partition(|awaited| is_alive(awaited.id));
            account.awaited = alive;
            if let Some(last) = ended.last() {
                // One that was still in its grace may have connected afterwards: nobody watched.
                let was_in_an_outage = last.legacy.outage.is_some();
                account.unreached = last.unreached.filter(|_| was_in_an_outage);
            }
        }
    }

    /// What a successor has to know of this pod, which has these processes, each with what it has
    /// counted. `wall` dates a moment in nanoseconds since the Unix epoch.
    pub(super) fn remembered(
        &mut self,
        name: &SeriesName,
        present: impl IntoIterator<Item = (Option<Process>, PodCounts)>,
        wall: impl Fn(Timestamp) -> u64,
    ) -> Option<Pod> {
        let account = self.accounts.get_mut(name)?;
        let mut total = account.settled.clone();
        let mut processes = account.awaited.clone();
        for (process, counted) in present {
            total.add(&counted);
            processes.extend(process);
        }
        // Not each time: a moment later is no news.
        let unsaid = account
            .last_seen
            .saturating_since(account.seen_for_successor);
        if unsaid >= SEEN_STEP {
            account.seen_for_successor = account.last_seen;
        }
        let opened = account.opened;
        Some(Pod {
            name: name.clone(),
            uid: account.uid.clone(),
            series_began: *account.series_began.get_or_insert_with(|| wall(opened)),
            total: Tally::from(&total),
            unreached: account.unreached,
            last_seen: account.seen_for_successor,
            processes,
        })
    }

    /// Whether there is an account of this name.
    pub(super) fn has(&self, name: &SeriesName) -> bool {
        self.accounts.contains_key(name)
    }
}

impl Account {
    /// Whether it has a process, or had one under the agent before this one that may still be found.
    fn may_have_a_process(&self) -> bool {
        self.present > 0 || !self.awaited.is_empty()
    }

    /// Whether it is known to be another pod's than that of `uid`.
    fn is_of_another(&self, uid: Option<&str>) -> bool {
        let both = self.uid.as_deref().zip(uid);
        both.is_some_and(|(known, uid)| known != uid)
    }

    /// The API may name a pod some time after its process was found.
    fn learn(&mut self, uid: Option<&str>) {
        if self.uid.is_none() {
            self.uid = uid.map(str::to_owned);
        }
    }
}

/// How exactly a successor is told when a pod was seen last: a sixtieth of [`KEPT`], for which it is told.
/// So a pod of which nothing else changes is written once a minute.
const SEEN_STEP: Duration = Duration::from_secs(60);
/// How many accounts without a process are kept at most: more than a node runs pods at all, by
/// default (kubelet `maxPods`, 110), so twice a whole node's may end within [`KEPT`]. Each takes
/// some 700 bytes.
const MOST_DEPARTED: usize = 256;

#[cfg(test)]
mod tests;
