//! Unobserved pods: the API says that they run here, and the agent sees no process of them. Their
//! links are unknown, so the agent reports that instead of a 0.

use std::{collections::BTreeMap, time::Duration};

use super::kubernetes::RunningPod;
use crate::{link_kind::LinkKind, time::Timestamp};

/// A pod that runs here, unobserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnobservedPod {
    /// The peer of its link.
    pub(crate) peer: String,
    /// The name that its process should have.
    pub(crate) process: String,
    /// Namespace of the pod.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) pod: String,
    /// Since when it runs without a visible process.
    pub(crate) since: Timestamp,
    /// The likely reason.
    pub(crate) reason: AbsenceReason,
}

/// Why a pod is likely to be unobserved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AbsenceReason {
    /// The kernel's maps are full.
    NoRoom,
    /// The agent may not inspect its process.
    Denied,
    /// The agent sees the processes of its own container only.
    NoHostPid,
    /// The pod has this RuntimeClass.
    RuntimeClass(String),
    /// The pod has no container of this name, which the client's should have.
    NoContainer(String),
    /// The pod of a process with the client's name cannot be determined.
    Unplaced,
    /// There is no process with the client's name.
    NoProcess,
}

impl AbsenceReason {
    /// The reason, as a value of `statlink.unobserved.reason`.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::Denied => "denied",
            Self::NoHostPid => "no_host_pid",
            Self::RuntimeClass(_) => "runtime_class",
            Self::NoContainer(_) => "no_container",
            Self::Unplaced => "unplaced",
            Self::NoProcess => "no_process",
        }
    }

    /// The reason and what to do, as text for a person. `process` is the client's process name.
    pub(crate) fn explain(&self, process: &str) -> String {
        match self {
            Self::NoRoom => "the kernel half has no room for more clients".to_owned(),
            Self::Denied => format!(
                "the agent may not inspect its process named {process}; the warning about that \
                 process says what it needs"
            ),
            Self::NoHostPid => {
                "the agent does not see the node's processes; needs the host's pid namespace \
                 (hostPID in Kubernetes)"
                    .to_owned()
            }
            Self::RuntimeClass(class) => format!(
                "it has the RuntimeClass {class} and no process named {process} on this node; a \
                 sandboxed runtime (gVisor, Kata) hides its processes from the node"
            ),
            Self::NoContainer(container) => format!(
                "it has no container named {container}; if the one of {process} has another name, set \
                 --container (the chart's knative.container)"
            ),
            Self::Unplaced => format!(
                "a process named {process} runs here, and its control group does not show whose pod \
                 it is in"
            ),
            Self::NoProcess => format!(
                "it has no process named {process}; if it has another name, set --process-name \
                 (the chart's knative.processName)"
            ),
        }
    }
}

/// A change for one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AbsenceNews {
    /// It was not observed for the whole grace.
    Unobserved(UnobservedPod),
    /// It is observed now, or no longer runs.
    Over(UnobservedPod),
}

/// The pods that run here unobserved, by uid.
#[derive(Debug, Default)]
pub(super) struct Absences {
    pods: BTreeMap<String, Absence>,
}

#[derive(Debug)]
enum Absence {
    /// Within its grace, which began at this moment.
    New(Timestamp),
    Told(UnobservedPod),
}

impl Absences {
    /// Updates which running pods have no client at `now`, and returns the changes. Unless the API
    /// `tells` every change, such pods may have ended, so no grace begins. `reason` finds the
    /// reason for a pod whose grace is over.
    pub(super) fn update(
        &mut self,
        unobserved: &[RunningPod<'_>],
        tells: bool,
        kinds: &[LinkKind],
        now: Timestamp,
        reason: impl Fn(&RunningPod<'_>) -> AbsenceReason,
    ) -> Vec<AbsenceNews> {
        let mut news = Vec::new();
        self.pods.retain(|uid, absence| {
            let is_absent = unobserved.iter().any(|pod| pod.uid == uid);
            match absence {
                Absence::New(_) => is_absent && tells,
                Absence::Told(pod) => {
                    if !is_absent {
                        news.push(AbsenceNews::Over(pod.clone()));
                    }
                    is_absent
                }
            }
        });
        for pod in unobserved.iter().filter(|_| tells) {
            let Some(kind) = kinds.get(pod.kind) else {
                continue;
            };
            let absence = self.pods.entry(pod.uid.to_owned());
            let absence = absence.or_insert(Absence::New(now));
            let Absence::New(since) = *absence else {
                continue;
            };
            if now < since + GRACE {
                continue;
            }
            let told = UnobservedPod {
                peer: kind.peer.clone().into_owned(),
                process: kind.process_name.clone().into_owned(),
                namespace: pod.identity.namespace.clone(),
                pod: pod.identity.pod.clone(),
                since,
                reason: reason(pod),
            };
            news.push(AbsenceNews::Unobserved(told.clone()));
            *absence = Absence::Told(told);
        }
        news
    }

    /// When the next grace ends.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = self.pods.values().filter_map(|absence| match absence {
            Absence::New(since) => Some(*since + GRACE),
            Absence::Told(_) => None,
        });
        deadlines.min()
    }

    /// The pods whose grace is over.
    pub(super) fn told(&self) -> impl Iterator<Item = &UnobservedPod> {
        self.pods.values().filter_map(|absence| match absence {
            Absence::Told(pod) => Some(pod),
            Absence::New(_) => None,
        })
    }
}

/// How long a pod may run before its process must be visible. The kubelet reports a container's
/// start and end seconds late: it looks once a second, and reports every ten at the latest.
const GRACE: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "absence_tests.rs"]
mod tests;
