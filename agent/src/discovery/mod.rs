//! Finds the clients on this node: the processes whose links are watched.
//!
//! `/proc` lists the processes; one with a client's process name is a candidate. The Kubernetes API
//! names it, by the pod and container in its control group; without an API, its own environment
//! does. The agent sees its end by its pidfd, or expects it when the API says that its pod is
//! terminating.
//!
//! | to find | look in |
//! |---|---|
//! | how a process becomes a client | `inspect` |
//! | how a single process is read | `proc`, `container`, `selector` |
//! | what the API said so far | `kubernetes::directory` |
//! | what names a process | `naming` |
//! | which process has which name, and what later information changes | `claims` |
//! | which processes have no link, because they wait for the API or were refused | `strangers`; the warnings: `unseen` |
//! | which pods run here without a visible process | `absence`; why: `likely` |

mod absence;
mod claims;
mod container;
mod error;
mod inspect;
pub(crate) mod kubernetes;
mod likely;
mod name;
mod naming;
mod network_namespace;
mod proc;
mod process_handle;
mod selector;
mod strangers;
#[cfg(test)]
mod tests;
mod unseen;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use tokio::sync::mpsc;

use self::{
    absence::Absences,
    claims::{Claims, Correction},
    kubernetes::{Directory, Doubts, PodIdentity, WatchEvent},
    strangers::Strangers,
};
pub(crate) use self::{
    absence::{AbsenceNews, AbsenceReason, UnobservedPod},
    error::DiscoveryError,
    network_namespace::NodeNamespaces,
    proc::{BootTicks, started, was_started_by},
    process_handle::ProcessHandle,
    selector::Selector,
    strangers::NEWS,
    unseen::Unseen,
};
use crate::link_kind::LinkKind;

/// A running process whose links are watched.
#[derive(Debug)]
pub(crate) struct Client {
    /// The kind of its links.
    pub kind: LinkKind,
    /// Its process id.
    pub pid: u32,
    /// Inode number of its network namespace; `None` where `/proc` denies it.
    pub netns: Option<u32>,
    /// Name of its pod.
    pub pod: String,
    /// Namespace of its pod.
    pub namespace: String,
    /// Whether its pod is known to use its node's network.
    pub host_network: bool,
    /// Its pod's uid; `None` if unknown.
    pub pod_uid: Option<String>,
    /// The process, held by a pidfd.
    pub process: ProcessHandle,
}

/// Finds clients, by `/proc` and what the Kubernetes API said so far.
#[derive(Debug)]
pub(crate) struct Discovery {
    selector: Selector,
    /// `None` without an API.
    directory: Option<Directory>,
    /// Where doubts about the peer's addresses are raised.
    doubts: Doubts,
    node_namespaces: NodeNamespaces,
    claims: Claims,
    strangers: Strangers,
    absences: Absences,
    /// Whether anything has changed since the last search for pods without a client.
    pods_may_differ: bool,
}

/// What an event of the Kubernetes API changes for the links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Update {
    /// Uids of pods whose links' end is expected.
    pub ended: Vec<String>,
    /// Processes that are no clients after all: their links end.
    pub lost: Vec<u32>,
    /// Processes that had named themselves, with the pod that the API has for each.
    pub adopted: Vec<(u32, PodIdentity)>,
    /// Whether processes may have got a name, so that a new scan is needed.
    pub rescan: bool,
    /// Whether the peer's addresses have changed.
    pub addresses: bool,
}

impl Discovery {
    /// A discovery that uses `/proc` alone.
    pub(crate) fn new(selector: Selector) -> Self {
        Self {
            selector,
            directory: None,
            doubts: Doubts::default(),
            node_namespaces: NodeNamespaces::default(),
            claims: Claims::default(),
            strangers: Strangers::default(),
            absences: Absences::default(),
            pods_may_differ: false,
        }
    }

    /// A discovery that also uses the Kubernetes API, whose events the caller passes to
    /// [`apply`](Self::apply).
    pub(crate) fn with_kubernetes(selector: Selector) -> Self {
        let kinds = selector.kinds.iter();
        let directory = Directory::new(kinds.map(|kind| kind.container.clone().into_owned()));
        Self {
            directory: Some(directory),
            ..Self::new(selector)
        }
    }

    /// Raises doubts about the peer's addresses with these watches.
    pub(crate) fn with_doubts(self, doubts: Doubts) -> Self {
        Self { doubts, ..self }
    }

    /// The network namespaces of nodes, as opposed to those of pods.
    pub(crate) fn node_namespaces(&self) -> &NodeNamespaces {
        &self.node_namespaces
    }

    /// The same, to add what is found later.
    pub(crate) fn node_namespaces_mut(&mut self) -> &mut NodeNamespaces {
        &mut self.node_namespaces
    }

    /// Whether the Kubernetes API is used.
    pub(crate) fn uses_kubernetes(&self) -> bool {
        self.directory.is_some()
    }

    /// Whether the API has listed everything once, or is not used.
    pub(crate) fn is_synced(&self) -> bool {
        self.directory.as_ref().is_none_or(Directory::is_synced)
    }

    /// Whether the API has listed this node's pods, or is not used.
    pub(crate) fn knows_pods(&self) -> bool {
        self.directory.as_ref().is_none_or(Directory::knows_pods)
    }

    /// Whether the API lists the pod of this uid on this node.
    pub(crate) fn lists_pod(&self, uid: &str) -> bool {
        let directory = self.directory.as_ref();
        directory.is_some_and(|directory| directory.lists_pod(uid))
    }

    /// Every address of the peer; `None` if they are not known.
    pub(crate) fn peer_addresses(&self) -> Option<BTreeSet<IpAddr>> {
        self.directory.as_ref()?.peer_addresses()
    }

    /// The current addresses of the peer, or the last known ones.
    pub(crate) fn last_peer_addresses(&self) -> Option<BTreeSet<IpAddr>> {
        self.directory.as_ref()?.last_peer_addresses()
    }

    /// Clients went to these addresses. If one is not known as the peer's, the API is asked whether
    /// what is known is current.
    pub(crate) fn went_to(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let Some(known) = self.peer_addresses() else {
            return;
        };
        let is_known = |address: SocketAddr| known.contains(&address.ip().to_canonical());
        if !addresses.into_iter().all(is_known) {
            self.doubts.raise();
        }
    }

    /// How many processes with a client's name have no link, by reason.
    pub(crate) fn refused(&self) -> Vec<(&'static str, u64)> {
        self.strangers.counts()
    }

    /// The pods that run here unobserved.
    pub(crate) fn unobserved(&self) -> impl Iterator<Item = &UnobservedPod> {
        self.absences.told()
    }

    /// Applies `events` until the API has listed everything once.
    pub(crate) async fn sync(&mut self, events: &mut mpsc::Receiver<WatchEvent>) {
        while !self.is_synced()
            && let Some(event) = events.recv().await
        {
            self.apply(event);
        }
    }

    /// Applies an event of the API.
    pub(crate) fn apply(&mut self, event: WatchEvent) -> Update {
        let Some(directory) = &mut self.directory else {
            return Update::default();
        };
        let change = directory.apply(event);
        let Correction { lost, adopted } = if change.names {
            self.claims.correct(directory)
        } else {
            Correction::default()
        };
        self.pods_may_differ = true;
        Update {
            ended: change.ended,
            rescan: change.names,
            lost,
            adopted,
            addresses: change.addresses,
        }
    }
}
