//! The counts of pods, beyond the life of one process.
//!
//! A series belongs to a pod, and a pod's client may be several processes: one after another, when
//! its container is restarted, or two at once. Each process counts from 0. So the ledger keeps an
//! account for each series and adds a process's counts to it when the process ends. A series shows
//! its account plus all present processes, and never falls.
//!
//! An account outlives its pod: its last counts must reach the Collector, which may be away, and
//! the next process of that name continues from there. [`KEPT`] and [`MOST_DEPARTED`] say when it
//! is closed.
//!
//! Pure: the time is an argument.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    link::Cause,
    memory::{KEPT, Pod, Process, ProcessId, Tally},
    snapshot::{Departed, PodCounts, SeriesName},
    time::Timestamp,
};

/// The accounts of all pods.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    accounts: BTreeMap<SeriesName, Account>,
}

/// The account of one pod.
#[derive(Debug)]
struct Account {
    /// Its pod's uid; `None` if unknown. A later pod of the same name has another uid.
    uid: Option<String>,
    /// The counts of its ended lives; but the number of lives includes the present ones.
    settled: PodCounts,
    /// The number of its running processes.
    present: usize,
    /// Why the life that ended last was never reachable; `None` if it was.
    unreached: Option<Cause>,
    /// When it last had a process, or the Kubernetes API last listed it.
    last_seen: Timestamp,
    /// The value of `last_seen` that the memory has.
    seen_for_successor: Timestamp,
    /// When the account was opened.
    opened: Timestamp,
    /// When its series began for the Collector, in nanoseconds since the Unix epoch, once that was
    /// asked for.
    series_began: Option<u64>,
    /// Processes that the agent before this one watched, and that this one has not found yet.
    awaited: Vec<Process>,
}

impl Ledger {
    /// A process of this pod was discovered. If it follows a life that was never reachable, returns
    /// why that was not.
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

    /// A process of this pod has ended with these counts. `unreached` says why it was never
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

    /// The counts of this pod's ended processes.
    pub(super) fn settled(&self, name: &SeriesName) -> PodCounts {
        let account = self.accounts.get(name);
        account.map_or_else(PodCounts::default, |account| account.settled.clone())
    }

    /// The pods without a process.
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

    /// Closes accounts that are old enough. `is_listed` says whether the Kubernetes API lists the
    /// pod of a uid: such a pod may get a process again.
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

/// Succession: from one agent to the next.
impl Ledger {
    /// Continues with what the agent before this one knew of a pod.
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

    /// A process of this pod was discovered. If the agent before this one had watched it, it is not
    /// a new life, and this returns what that agent knew of it.
    pub(super) fn resume(
        &mut self,
        name: &SeriesName,
        uid: Option<&str>,
        process: ProcessId,
        now: Timestamp,
    ) -> Option<Process> {
        let account = self.accounts.get_mut(name)?;
        let mut awaited = account.awaited.iter();
        let at = awaited.position(|awaited| awaited.id == process)?;
        let resumed = account.awaited.swap_remove(at);
        account.learn(uid);
        account.present += 1;
        account.last_seen = now;
        Some(resumed)
    }

    /// Stops awaiting processes that no longer exist: they ended while no agent watched.
    pub(super) fn await_only(&mut self, is_alive: impl Fn(ProcessId) -> bool) {
        for account in self.accounts.values_mut() {
            let awaited = std::mem::take(&mut account.awaited);
            let (alive, ended): (Vec<_>, Vec<_>) = awaited
                .into_iter()
                .partition(|awaited| is_alive(awaited.id));
            account.awaited = alive;
            if let Some(last) = ended.last() {
                // A process in its grace may have connected later, while no agent watched.
                let was_in_an_outage = last.legacy.outage.is_some();
                account.unreached = last.unreached.filter(|_| was_in_an_outage);
            }
        }
    }

    /// What a successor needs to know of this pod. The arguments are its processes, each with its
    /// counts; `wall` converts a moment to nanoseconds since the Unix epoch.
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
        // Updating it every time would rewrite the file every time.
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
    /// Whether it has a process, or awaits one of the agent before this one.
    fn may_have_a_process(&self) -> bool {
        self.present > 0 || !self.awaited.is_empty()
    }

    /// Whether its uid is known and differs from `uid`.
    fn is_of_another(&self, uid: Option<&str>) -> bool {
        let both = self.uid.as_deref().zip(uid);
        both.is_some_and(|(known, uid)| known != uid)
    }

    /// Adds a uid: the API may name a pod some time after its process was found.
    fn learn(&mut self, uid: Option<&str>) {
        if self.uid.is_none() {
            self.uid = uid.map(str::to_owned);
        }
    }
}

/// How often the memory's time of a pod's last sight is updated: a sixtieth of [`KEPT`], which
/// counts from it. So a pod without other changes is written once a minute.
const SEEN_STEP: Duration = Duration::from_secs(60);
/// How many accounts without a process are kept. A node runs fewer pods by default (kubelet
/// `maxPods`, 110), so all pods of a node may end twice within [`KEPT`]. Each account takes some
/// 700 bytes.
const MOST_DEPARTED: usize = 256;

#[cfg(test)]
mod tests;
