//! Inspecting processes: how one with a client's name becomes a client, or why it gets no link.

use super::{
    Client, Discovery, ProcessHandle,
    claims::{Claim, Place, Refusal},
    container::Container,
    error::{DiscoveryError, Unplaced},
    naming::{self, NamedBy, Naming},
    proc, strangers,
};
use crate::{link_kind::LinkKind, time::Timestamp};

/// A process with a client's name.
struct Candidate {
    kind: LinkKind,
    index: usize,
    naming: Naming,
    place: Place,
    process: ProcessHandle,
}

impl Discovery {
    /// Every client that runs now and was not found before, the oldest first, because the process
    /// that had a name first keeps it. A process that cannot be inspected is an error in the list
    /// and does not hide the others.
    ///
    /// # Errors
    ///
    /// If `/proc` itself cannot be listed.
    pub(crate) fn scan(
        &mut self,
        now: Timestamp,
    ) -> Result<Vec<Result<Client, DiscoveryError>>, DiscoveryError> {
        let pids = proc::pids().map_err(|source| DiscoveryError::Proc {
            path: "/proc".to_owned(),
            source,
        })?;
        let mut pids: Vec<_> = pids
            .into_iter()
            .filter(|pid| self.kind_of(*pid).is_some())
            .collect();
        pids.sort_unstable();
        self.strangers.retain(&pids);
        Ok(self.inspect_all(pids, now))
    }

    /// Handles the processes that are due by `now`: the API has not named them in time.
    pub(crate) fn on_deadline(&mut self, now: Timestamp) -> Vec<Result<Client, DiscoveryError>> {
        let overdue = self.strangers.overdue(now);
        self.inspect_all(overdue, now)
    }

    /// When the next process is due.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = [
            self.strangers.next_deadline(),
            self.absences.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Process `pid` as a client. `None` if it is not one, was found before, may be named later, or
    /// is gone.
    ///
    /// # Errors
    ///
    /// If the process has a client's name and gets no link: the kernel denies access to what names
    /// it; the name is not valid, is another client's, or is of a namespace that is not watched; or
    /// the API did not name it in time.
    pub(crate) fn inspect(
        &mut self,
        pid: u32,
        now: Timestamp,
    ) -> Result<Option<Client>, DiscoveryError> {
        if self.claims.contains(pid) {
            return Ok(None);
        }
        let candidate = match self.candidate(pid) {
            Ok(Some(candidate)) => candidate,
            Ok(None) => {
                self.strangers.forget(pid);
                return Ok(None);
            }
            Err(error) => {
                self.strangers.refuse(pid, error.refusal(), None);
                return Err(error);
            }
        };
        let process = candidate.kind.process_name.clone();
        let unplaced = |why, cgroup: &str| DiscoveryError::unplaced(pid, &process, why, cgroup);
        let (by, identity) = match candidate.naming {
            Naming::Named(by, identity) => (by, identity),
            Naming::Nobody => {
                self.strangers.forget(pid);
                return Ok(None);
            }
            Naming::Waits(why) => {
                if self.strangers.waits(pid, None, now) {
                    return Ok(None);
                }
                let error = unplaced(why, &candidate.place.cgroup);
                self.strangers.refuse(pid, error.refusal(), None);
                return Err(error);
            }
        };
        let claim = Claim {
            kind: candidate.index,
            identity: identity.clone(),
            by,
            place: candidate.place.clone(),
        };
        let (error, behind) = match self.claims.admit(pid, claim) {
            Ok(()) => {
                let client = Client {
                    kind: candidate.kind,
                    pid,
                    netns: candidate.place.netns,
                    pod: identity.pod,
                    namespace: identity.namespace,
                    host_network: identity.host_network,
                    pod_uid: identity.uid,
                    process: candidate.process,
                };
                self.strangers.forget(pid);
                self.pods_may_differ = true;
                return Ok(Some(client));
            }
            Err(Refusal::Unreported(client)) => {
                if self.strangers.waits(pid, Some(client), now) {
                    return Ok(None);
                }
                let error = unplaced(Unplaced::NotReported, &candidate.place.cgroup);
                (error, Some(client))
            }
            Err(Refusal::Taken(holder)) => {
                let error = DiscoveryError::NameTaken {
                    pid,
                    process: process.clone().into_owned(),
                    pod: format!("{}/{}", identity.namespace, identity.pod),
                    holder,
                };
                (error, Some(holder))
            }
            Err(Refusal::TooMany) => {
                let process = process.clone().into_owned();
                (DiscoveryError::TooMany { pid, process }, None)
            }
        };
        self.strangers.refuse(pid, error.refusal(), behind);
        Err(error)
    }

    /// Process `pid` no longer has a link. Returns the processes that it blocked, the oldest first:
    /// the caller inspects them again.
    pub(crate) fn release(&mut self, pid: u32) -> Vec<u32> {
        self.claims.release(pid);
        self.pods_may_differ = true;
        let mut behind = self.strangers.behind(pid);
        behind.sort_by_cached_key(|pid| proc::started(*pid));
        behind
    }

    /// There is no room for the link of process `pid`. If the API named it, returns a client that
    /// named itself and has to make room.
    pub(crate) fn found_no_room(&mut self, pid: u32) -> Option<u32> {
        let claim = self.claims.release(pid)?;
        self.pods_may_differ = true;
        self.strangers.refuse(pid, strangers::NO_ROOM, None);
        let is_first = claim.by != NamedBy::Environment;
        is_first
            .then(|| self.claims.last_by_environment())
            .flatten()
    }

    fn inspect_all(
        &mut self,
        mut pids: Vec<u32>,
        now: Timestamp,
    ) -> Vec<Result<Client, DiscoveryError>> {
        pids.sort_by_cached_key(|pid| proc::started(*pid));
        let found = pids.into_iter();
        found
            .filter_map(|pid| self.inspect(pid, now).transpose())
            .collect()
    }

    /// What `/proc` shows of process `pid`, if it has a client's name.
    fn candidate(&self, pid: u32) -> Result<Option<Candidate>, DiscoveryError> {
        let Some((index, kind)) = self.kind_of(pid) else {
            return Ok(None);
        };
        // Open the process before reading of it: if the id has gone to another process since, the
        // reads below find nothing or the handle ends at once.
        let Some(process) = ProcessHandle::open(pid)? else {
            return Ok(None);
        };
        let named = self.named(pid, index, kind);
        // If the process has ended or called exec meanwhile, the values read may be mixed.
        if process.has_ended() || self.kind_of(pid).is_none() {
            return Ok(None);
        }
        let Some((naming, place)) = named? else {
            return Ok(None);
        };
        Ok(Some(Candidate {
            kind: kind.clone(),
            index,
            naming,
            place,
            process,
        }))
    }

    /// The kind of a process, by its name, with the kind's index; `None` if no kind has this name,
    /// or the process is gone.
    fn kind_of(&self, pid: u32) -> Option<(usize, &LinkKind)> {
        self.selector.kind_of(&proc::comm(pid)?)
    }

    /// What names a process of this kind, and where it runs; `None` if it is gone.
    fn named(
        &self,
        pid: u32,
        index: usize,
        kind: &LinkKind,
    ) -> Result<Option<(Naming, Place)>, DiscoveryError> {
        let Some(cgroup) = proc::cgroup(pid) else {
            return Ok(None);
        };
        let container = Container::of(&cgroup);
        let netns = match proc::network_namespace(pid) {
            Ok(Some(netns)) => Some(netns),
            Ok(None) => return Ok(None),
            // The kernel half can find it without the capability that `/proc` requires.
            Err(error) if error.is_refusal() => None,
            Err(error) => return Err(error),
        };
        let environment = || self.selector.identity_from_environment(pid);
        let mut naming = naming::name(
            self.directory.as_ref(),
            index,
            container.as_ref(),
            environment,
        )?;
        // The API does not list an activator of another namespace. Its own environment says so, if
        // it can be read.
        let elsewhere = match &naming {
            Naming::Named(_, identity) => Some(identity.namespace.clone()),
            Naming::Waits(Unplaced::NotListed) => {
                let named = environment().ok().flatten();
                named.map(|identity| identity.namespace)
            }
            Naming::Nobody | Naming::Waits(_) => None,
        };
        if let (Some(namespace), Some(watched)) = (elsewhere, &self.selector.namespace)
            && *watched != namespace
        {
            return Err(DiscoveryError::OtherNamespace {
                pid,
                process: kind.process_name.clone().into_owned(),
                namespace,
                watched: watched.clone(),
            });
        }
        if let Naming::Named(_, identity) = &mut naming
            && identity.uid.is_none()
        {
            identity.uid = container.as_ref().and_then(|it| it.pod_uid.clone());
        }
        let place = Place {
            container,
            cgroup,
            netns,
        };
        Ok(Some((naming, place)))
    }
}
