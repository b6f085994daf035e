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
    link::Cause,
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
            .filter(|(_, account)| account.present == 0)
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
            if account.present > 0 || account.uid.as_deref().is_some_and(&is_listed) {
                account.last_seen = now;
            }
        }
        self.accounts
            .retain(|_, account| now.saturating_since(account.last_seen) <= KEPT);
        let gone = |account: &Account| account.present == 0 && account.last_seen < now;
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

impl Account {
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

/// For how long an account is kept after its pod's last process has ended and the Kubernetes API,
/// where there is one, has ceased to list the pod. An outage of a Collector that is longer than
/// that costs the last counts of pods that ended in it. And far longer than backends take a series
/// for alive without a sample (Prometheus: 5 minutes), so that a name that comes back after that
/// begins at 0 like a new one.
const KEPT: Duration = Duration::from_secs(3600);
/// How many accounts without a process are kept at most: more than a node runs pods at all, by
/// default (kubelet `maxPods`, 110), so twice a whole node's may end within [`KEPT`]. Each takes
/// some 700 bytes.
const MOST_DEPARTED: usize = 256;

#[cfg(test)]
mod tests;
