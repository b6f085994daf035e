//! Finds the clients on this node: the processes whose links are watched.
//!
//! `/proc` lists the processes; one with a client's process name is a candidate. Its name comes from
//! the Kubernetes API, by the pod and container in its control group, or from its own environment;
//! either is enough. Its end is seen by its pidfd, or expected because the API says that its pod is
//! terminating.
//!
//! What is read of a single process is in [`proc`] and [`container`], what the API said so far in
//! [`kubernetes::Directory`].

mod container;
mod error;
pub(crate) mod kubernetes;
mod name;
mod network_namespace;
mod proc;
mod process_handle;
mod selector;
mod unseen;

use std::{collections::BTreeSet, net::IpAddr};

use self::{
    container::Container,
    kubernetes::{ContainerOwner, Directory, PodIdentity, WatchEvent},
};
pub(crate) use self::{
    error::DiscoveryError, network_namespace::NodeNamespaces, process_handle::ProcessHandle,
    selector::Selector, unseen::Unseen,
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
    /// Its pod's uid; `None` outside of Kubernetes.
    pub pod_uid: Option<String>,
    /// Says when it has ended.
    pub process: ProcessHandle,
}

/// Finds clients, by `/proc` and what the Kubernetes API said so far.
#[derive(Debug)]
pub(crate) struct Discovery {
    selector: Selector,
    /// `None` without an API.
    directory: Option<Directory>,
    node_namespaces: NodeNamespaces,
}

/// What an event of the Kubernetes API changes for the links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Update {
    /// Uids of pods whose links' end is expected.
    pub ended: Vec<String>,
    /// Whether processes may have got a name: scan again.
    pub rescan: bool,
    /// Whether the peer's addresses have changed.
    pub addresses: bool,
}

impl Discovery {
    /// Uses `/proc` alone.
    pub(crate) fn new(selector: Selector) -> Self {
        Self {
            selector,
            directory: None,
            node_namespaces: NodeNamespaces::default(),
        }
    }

    /// Uses the Kubernetes API as well, whose events are to be passed to [`apply`](Self::apply).
    pub(crate) fn with_kubernetes(selector: Selector) -> Self {
        let kinds = selector.kinds.iter();
        let directory = Directory::new(kinds.map(|kind| kind.container.clone().into_owned()));
        Self {
            selector,
            directory: Some(directory),
            node_namespaces: NodeNamespaces::default(),
        }
    }

    /// Which network namespaces are nodes', and which a pod's own.
    pub(crate) fn node_namespaces(&self) -> &NodeNamespaces {
        &self.node_namespaces
    }

    /// The same, to take in what is found out later.
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

    /// Takes in an event of the API.
    pub(crate) fn apply(&mut self, event: WatchEvent) -> Update {
        let Some(directory) = &mut self.directory else {
            return Update::default();
        };
        let change = directory.apply(event);
        Update {
            ended: change.ended,
            rescan: change.names,
            addresses: change.addresses,
        }
    }

    /// Every address of the peer; `None` while they are not known.
    pub(crate) fn peer_addresses(&self) -> Option<BTreeSet<IpAddr>> {
        self.directory.as_ref()?.peer_addresses()
    }

    /// Every client that runs now. A process that cannot be inspected is an error in the list and
    /// does not hide the others.
    ///
    /// # Errors
    ///
    /// If `/proc` itself cannot be listed.
    pub(crate) fn scan(&self) -> Result<Vec<Result<Client, DiscoveryError>>, DiscoveryError> {
        let pids = proc::pids().map_err(|source| DiscoveryError::Proc {
            path: "/proc".to_owned(),
            source,
        })?;
        Ok(pids
            .into_iter()
            .filter_map(|pid| self.inspect(pid).transpose())
            .collect())
    }

    /// Process `pid` as a client; `None` if it is not one, or is gone.
    ///
    /// # Errors
    ///
    /// If it has a client's process name and the kernel denies what names it, or what names it is no
    /// name, or of a namespace that is not watched.
    pub(crate) fn inspect(&self, pid: u32) -> Result<Option<Client>, DiscoveryError> {
        let Some((index, kind)) = self.kind_of(pid) else {
            return Ok(None);
        };
        // Open the process before reading of it: if the id has gone to another process since, the
        // reads below find nothing or the handle ends at once.
        let Some(process) = ProcessHandle::open(pid)? else {
            return Ok(None);
        };
        let named = self.named(pid, index, kind);
        // What was read of a process that has ended meanwhile, or executed something else, tells
        // nothing.
        if named.is_err() && (process.has_ended() || self.kind_of(pid).is_none()) {
            return Ok(None);
        }
        let Some((identity, netns)) = named? else {
            return Ok(None);
        };
        Ok(Some(Client {
            kind: kind.clone(),
            pid,
            netns,
            pod: identity.pod,
            namespace: identity.namespace,
            host_network: identity.host_network,
            pod_uid: identity.uid,
            process,
        }))
    }

    /// The kind of a process, by its name, with its index; `None` if it is none's, or gone.
    fn kind_of(&self, pid: u32) -> Option<(usize, &LinkKind)> {
        self.selector.kind_of(&proc::comm(pid)?)
    }

    /// What names a process of this kind, and its network namespace, where that may be read; `None`
    /// if it is no client, or is gone.
    fn named(
        &self,
        pid: u32,
        index: usize,
        kind: &LinkKind,
    ) -> Result<Option<(PodIdentity, Option<u32>)>, DiscoveryError> {
        let container = proc::cgroup(pid).as_deref().and_then(Container::of);
        let Some(mut identity) = self.identity(pid, index, container.as_ref())? else {
            return Ok(None);
        };
        if let Some(watched) = self.selector.namespace.as_ref()
            && *watched != identity.namespace
        {
            return Err(DiscoveryError::OtherNamespace {
                pid,
                process: kind.process_name.clone().into_owned(),
                namespace: identity.namespace,
                watched: watched.clone(),
            });
        }
        identity.uid = identity.uid.or_else(|| container?.pod_uid);
        match proc::network_namespace(pid) {
            Ok(netns) => Ok(netns.map(|netns| (identity, Some(netns)))),
            // The kernel half can tell it without the capability that `/proc` asks for.
            Err(error) if error.is_refusal() => Ok(Some((identity, None))),
            Err(error) => Err(error),
        }
    }

    /// The pod of a process with the process name of the kind at `index`; `None` if it is not such
    /// a client, or not known to be one yet.
    fn identity(
        &self,
        pid: u32,
        index: usize,
        container: Option<&Container>,
    ) -> Result<Option<PodIdentity>, DiscoveryError> {
        if let (Some(directory), Some(container)) = (&self.directory, container) {
            match directory.owner(container) {
                ContainerOwner::Client { kind, identity } if kind == index => {
                    return Ok(Some(identity));
                }
                ContainerOwner::Client { .. } | ContainerOwner::Other => return Ok(None),
                ContainerOwner::Unknown => {}
            }
        }
        match self.selector.identity_from_environment(pid) {
            // With the API, a process that neither it nor the environment names belongs to
            // somebody else, or the API will name it soon.
            Err(error) if self.directory.is_some() && error.is_refusal() => {
                tracing::debug!(pid, "A process has a client's name but no known pod yet.");
                Ok(None)
            }
            identity => identity,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{fs::symlink, process::CommandExt as _},
        process::{Child, Command},
    };

    use super::*;
    use crate::link_kind::ACTIVATOR;

    /// A process named like an activator, which ends with the test.
    struct Process {
        child: Child,
        _directory: tempfile::TempDir,
    }

    impl Process {
        fn with(environment: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("activator");
            symlink("/bin/sleep", &path).unwrap();
            let mut command = Command::new(path);
            command.arg0("sleep").arg("1000").env_clear();
            let child = command.envs(environment.iter().copied()).spawn().unwrap();
            // The parent goes on before the child's new memory has its environment.
            let environ = format!("/proc/{}/environ", child.id());
            while std::fs::read(&environ).unwrap().is_empty() {
                std::thread::yield_now();
            }
            Self {
                child,
                _directory: directory,
            }
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn discovery() -> Discovery {
        Discovery::new(Selector {
            kinds: vec![ACTIVATOR.clone()],
            pod_name_env: "POD_NAME".to_owned(),
            namespace_env: "SYSTEM_NAMESPACE".to_owned(),
            namespace: Some("knative-serving".to_owned()),
        })
    }

    #[tokio::test]
    async fn a_process_is_named_by_its_environment_or_an_error_names_it() {
        const NAMESPACE: (&str, &str) = ("SYSTEM_NAMESPACE", "knative-serving");
        let inspect = |environment: &[(&str, &str)]| {
            let process = Process::with(environment);
            let pid = process.child.id();
            let found = discovery().inspect(pid);
            found
                .map(|client| client.map(|client| client.pod))
                .map_err(|error| error.to_string().replace(&pid.to_string(), "PID"))
        };
        let named = inspect(&[("POD_NAME", "activator-1"), NAMESPACE]);
        assert_eq!(named, Ok(Some("activator-1".to_owned())));
        assert_eq!(inspect(&[NAMESPACE]), Ok(None));
        let elsewhere = inspect(&[("POD_NAME", "activator-1"), ("SYSTEM_NAMESPACE", "knative")]);
        assert_eq!(
            elsewhere.unwrap_err(),
            "process PID (activator) is of the namespace knative, and knative-serving is watched; \
             if it is Knative's, name that namespace with --namespace (the chart's \
             knative.namespace)"
        );
        let hostile = inspect(&[("POD_NAME", "\u{1b}[2J\r\nfake"), NAMESPACE]).unwrap_err();
        let expected = r#"process PID has POD_NAME="\u{1b}[2J\r\nfake", which is no name"#;
        assert!(hostile.starts_with(expected), "{hostile}");
        // Variables stand in the order of their names.
        let long = "x".repeat(100_000);
        let cut = inspect(&[("A", &long), ("POD_NAME", "activator-1"), NAMESPACE]).unwrap_err();
        assert!(
            cut.starts_with("process PID names no pod in the first 64 KiB"),
            "{cut}"
        );
        let cut = inspect(&[("POD_NAME", &long), NAMESPACE]).unwrap_err();
        assert!(cut.starts_with("process PID "), "{cut}");
    }
}
