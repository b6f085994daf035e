//! Which pods are unobserved, and the likely reason for each.

use super::{
    AbsenceNews, AbsenceReason, Discovery, Selector,
    container::Container,
    kubernetes::{ContainerOwner, Directory, RunningPod},
    proc,
    strangers::{self, Strangers},
};
use crate::time::Timestamp;

impl Discovery {
    /// Updates the unobserved pods and returns the changes. Call it after links were made for what
    /// was found, and when a deadline is over.
    pub(crate) fn look_for_absences(&mut self, now: Timestamp) -> Vec<AbsenceNews> {
        let is_due = self.absences.next_deadline().is_some_and(|at| at <= now);
        let is_asked = std::mem::take(&mut self.pods_may_differ) || is_due;
        let (true, Some(directory)) = (is_asked, &self.directory) else {
            return Vec::new();
        };
        let (claims, strangers, selector) = (&self.claims, &self.strangers, &self.selector);
        let unobserved: Vec<_> = directory
            .running()
            .filter(|pod| !claims.has_pod(pod.uid))
            .collect();
        let news = directory.tells_of_pods();
        self.absences
            .update(&unobserved, news, &selector.kinds, now, |pod| {
                likely_reason(pod, directory, strangers, selector)
            })
    }
}

/// Why this pod is likely to be unobserved.
fn likely_reason(
    pod: &RunningPod<'_>,
    directory: &Directory,
    strangers: &Strangers,
    selector: &Selector,
) -> AbsenceReason {
    // Whatever process there is, the others are sidecars.
    if let Some(container) = pod.lacks_container {
        return AbsenceReason::NoContainer(container.to_owned());
    }
    if !proc::shows_the_node() {
        return AbsenceReason::NoHostPid;
    }
    let mut unplaced = false;
    for pid in strangers.pids() {
        let kind = proc::comm(pid).and_then(|comm| selector.kind_of(&comm));
        if kind.is_none_or(|(kind, _)| kind != pod.kind) {
            continue;
        }
        let container = proc::cgroup(pid).as_deref().and_then(Container::of);
        let owner = container.as_ref().map(|it| directory.owner(it));
        let is_its = matches!(
            &owner,
            Some(ContainerOwner::Client { identity, .. }) if identity.uid.as_deref() == Some(pod.uid)
        );
        match strangers.reason(pid) {
            Some(strangers::NO_ROOM) if is_its => return AbsenceReason::NoRoom,
            Some(_) if is_its => return AbsenceReason::Denied,
            // A process in another, visible pod does not belong to this one.
            _ => {
                let is_elsewhere = container.is_some_and(|it| it.pod_uid.is_some());
                unplaced |= !is_elsewhere && !matches!(owner, Some(ContainerOwner::Other));
            }
        }
    }
    if let Some(class) = pod.runtime_class {
        return AbsenceReason::RuntimeClass(class.to_owned());
    }
    if unplaced {
        AbsenceReason::Unplaced
    } else {
        AbsenceReason::NoProcess
    }
}
