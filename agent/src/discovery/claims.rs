//! Claims of names: the process that had a name first keeps it while it lives.

use std::collections::BTreeMap;

use super::{
    container::Container,
    kubernetes::{ContainerOwner, Directory, PodIdentity},
    naming::NamedBy,
};

/// The clients that run now, by process.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<u32, Claim>);

/// One client: its pod, who named it, and where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Index of the kind of its links.
    pub(super) kind: usize,
    pub(super) identity: PodIdentity,
    pub(super) by: NamedBy,
    pub(super) place: Place,
}

/// Where a process runs, as far as it can be told from other places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The container that its control group names.
    pub(super) container: Option<Container>,
    /// Its control groups, as text.
    pub(super) cgroup: String,
    /// Inode number of its network namespace; `None` where `/proc` denies it.
    pub(super) netns: Option<u32>,
}

/// Why a process does not get the name that it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// This process, which runs elsewhere, has it.
    Taken(u32),
    /// The limit of processes that name themselves is reached.
    TooMany,
    /// The pod's client is this process, in another container. The kubelet may not have reported
    /// this one's container yet.
    Unreported(u32),
}

/// What later information from the API changes for the clients.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Correction {
    /// Processes that are no clients, or belong to another pod.
    pub(super) lost: Vec<u32>,
    /// Processes that had named themselves correctly.
    pub(super) adopted: Vec<(u32, PodIdentity)>,
}

impl Claims {
    /// Whether process `pid` is a client.
    pub(super) fn contains(&self, pid: u32) -> bool {
        self.0.contains_key(&pid)
    }

    /// Gives process `pid` the name that it claims, if it may have it.
    pub(super) fn admit(&mut self, pid: u32, claim: Claim) -> Result<(), Refusal> {
        match claim.by {
            NamedBy::Api { reported: true } => {}
            NamedBy::Api { reported: false } => {
                let client = self.0.iter().find(|(_, other)| {
                    other.identity.uid == claim.identity.uid
                        && other.by == NamedBy::Api { reported: true }
                });
                if let Some((client, _)) = client {
                    return Err(Refusal::Unreported(*client));
                }
            }
            NamedBy::Environment => {
                let holder = self.0.iter().find(|(_, other)| {
                    other.has_name_of(&claim) && !other.place.is_same(&claim.place)
                });
                if let Some((holder, _)) = holder {
                    return Err(Refusal::Taken(*holder));
                }
                let themselves = self.0.values();
                let themselves = themselves.filter(|other| other.by == NamedBy::Environment);
                if themselves.count() >= MOST_BY_ENVIRONMENT {
                    return Err(Refusal::TooMany);
                }
            }
        }
        self.0.insert(pid, claim);
        Ok(())
    }

    /// Process `pid` is no longer a client.
    pub(super) fn release(&mut self, pid: u32) -> Option<Claim> {
        self.0.remove(&pid)
    }

    /// The client that named itself last: it goes first if room is needed.
    pub(super) fn last_by_environment(&self) -> Option<u32> {
        let mut claims = self.0.iter().rev();
        let last = claims.find(|(_, claim)| claim.by == NamedBy::Environment);
        last.map(|(pid, _)| *pid)
    }

    /// Whether a client of this pod runs.
    pub(super) fn has_pod(&self, uid: &str) -> bool {
        let mut claims = self.0.values();
        claims.any(|claim| claim.identity.uid.as_deref() == Some(uid))
    }

    /// Checks earlier names against what the API knows now, and forgets the wrong ones.
    pub(super) fn correct(&mut self, directory: &Directory) -> Correction {
        let mut correction = Correction::default();
        self.0.retain(|pid, claim| {
            let owner = claim.place.container.as_ref();
            let owner = owner.map_or(ContainerOwner::Unknown, |it| directory.owner(it));
            let keeps = match owner {
                ContainerOwner::Client {
                    kind,
                    identity,
                    reported,
                } => {
                    let is_right = kind == claim.kind && identity.is_pod_of(&claim.identity);
                    if is_right && claim.by == NamedBy::Environment {
                        correction.adopted.push((*pid, identity.clone()));
                        claim.identity = identity;
                    }
                    claim.by = NamedBy::Api { reported };
                    is_right
                }
                ContainerOwner::Other => false,
                ContainerOwner::Unknown => {
                    claim.by != NamedBy::Environment || {
                        let in_container = claim.place.container.is_some();
                        !(directory.knows_pods()
                            && (in_container || directory.knows_name(&claim.identity)))
                    }
                }
            };
            if !keeps {
                correction.lost.push(*pid);
            }
            keeps
        });
        correction
    }
}

impl Claim {
    fn has_name_of(&self, other: &Self) -> bool {
        self.kind == other.kind && self.identity.is_pod_of(&other.identity)
    }
}

impl Place {
    /// Whether a process there may belong to the same pod. A container's processes may be in groups
    /// below the container's own.
    fn is_same(&self, other: &Self) -> bool {
        let same_group = match (&self.container, &other.container) {
            (Some(one), Some(other)) => one == other,
            (None, None) => self.cgroup == other.cgroup,
            _ => false,
        };
        let same_network = match (self.netns, other.netns) {
            (Some(one), Some(other)) => one == other,
            // One of the two is unknown.
            _ => true,
        };
        same_group && same_network
    }
}

/// How many clients may name themselves: as many links as one node is designed for. Clients that
/// the API names do not count, and take precedence.
const MOST_BY_ENVIRONMENT: usize = 200;

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
