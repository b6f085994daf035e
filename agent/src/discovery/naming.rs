//! Rules for naming a process with a client's name, without `/proc`.
//!
//! Once the Kubernetes API has listed the pods, it alone names a process that runs in a container,
//! and no environment takes a name that the API knows: an environment holds whatever its process
//! was given.

use super::{
    container::Container,
    error::{DiscoveryError, Unplaced},
    kubernetes::{ContainerOwner, Directory, PodIdentity},
};

/// The result of naming a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// The process belongs to this pod.
    Named(NamedBy, PodIdentity),
    /// It is no client: it is a sidecar's, its pod has ended, or nothing names it.
    Nobody,
    /// The API may still name it.
    Waits(Unplaced),
}

/// The source of a process's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// The API knows its pod. `reported` says whether it also knows its container as the client's.
    Api { reported: bool },
    /// Its own environment.
    Environment,
}

/// Names a process of the kind at index `kind`, which runs in `container`. `environment` reads what
/// its environment says.
///
/// # Errors
///
/// If the environment is needed, and access is denied or it holds no valid name.
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
    // Its control group names no container. While the API reports every change, a pod that it does
    // not know does not run here.
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
