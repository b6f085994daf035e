//! Who names a process with a client's name: the rules, without `/proc`.
//!
//! Once the Kubernetes API has listed the pods it alone names a process that runs in a container,
//! and nobody else takes a name that it knows: an environment holds whatever its process was given.

use super::{
    container::Container,
    error::{DiscoveryError, Unplaced},
    kubernetes::{ContainerOwner, Directory, PodIdentity},
};

/// What names a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// This is its pod.
    Named(NamedBy, PodIdentity),
    /// It is no client: a sidecar's, of a pod that has ended, or nothing names it.
    Nobody,
    /// The API may still tell.
    Waits(Unplaced),
}

/// Who has named a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// The API knows its pod. `reported`: and its container as the client's.
    Api { reported: bool },
    /// Its own environment.
    Environment,
}

/// Names a process of the kind at index `kind`, which runs in `container`. `environment` reads what
/// its environment says.
///
/// # Errors
///
/// If the environment is needed, and denied or no name.
pub(super) fn name(
    directory: Option<&Directory>,
    kind: usize,
    container: Option<&Container>,
    environment: impl FnOnce() -> Result<Option<PodIdentity>, DiscoveryError>,
) -> Result<Naming, DiscoveryError> {
    let Some(directory) = directory else {
        return environment().map(by_environment);
    };
    if let Some(container) = container {
        match directory.owner(container) {
            ContainerOwner::Client {
                kind: owner,
                identity,
                reported,
            } if owner == kind => {
                return Ok(Naming::Named(NamedBy::Api { reported }, identity));
            }
            ContainerOwner::Client { .. } | ContainerOwner::Other => return Ok(Naming::Nobody),
            ContainerOwner::Unknown => {}
        }
    }
    if !directory.knows_pods() {
        return match environment() {
            Err(error) if error.is_refusal() => Ok(Naming::Waits(Unplaced::NothingListed)),
            named => named.map(by_environment),
        };
    }
    if container.is_some() {
        return Ok(Naming::Waits(Unplaced::NotListed));
    }
    // Outside of containers, as far as its control group tells. While the API tells every change, a
    // pod that it does not know does not run here.
    let waits = Naming::Waits(Unplaced::NoContainer);
    if directory.tells_of_pods() {
        return Ok(waits);
    }
    match environment() {
        Err(error) if error.is_refusal() => Ok(waits),
        Ok(Some(identity)) if directory.knows_name(&identity) => Ok(waits),
        named => named.map(by_environment),
    }
}

fn by_environment(named: Option<PodIdentity>) -> Naming {
    named.map_or(Naming::Nobody, |identity| {
        Naming::Named(NamedBy::Environment, identity)
    })
}

#[cfg(test)]
#[path = "naming_tests.rs"]
mod tests;
