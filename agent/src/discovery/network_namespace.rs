//! Whose a network namespace is: a pod's own, or a node's.
//!
//! In a pod's own namespace every other process that connects to the watched port is a proxy of
//! that pod. In a node's namespace it may be anybody.

use std::collections::BTreeSet;

/// The network namespaces of nodes, as far as they are known, each by its inode number.
#[derive(Debug, Default)]
pub(crate) struct NodeNamespaces {
    /// The one that the kernel's own threads are in; `None` while this is not known.
    host: Option<u32>,
    /// Those of nodes that are containers themselves (kind's are), as far as pods share them.
    shared: BTreeSet<u32>,
}

impl NodeNamespaces {
    /// Takes in which namespace the host's is; `None` if the kernel does not say.
    pub(crate) fn set_host(&mut self, netns: Option<u32>) {
        self.host = netns;
    }

    /// Takes in that a pod with `hostNetwork: true` is in `netns`: it is its node's.
    pub(crate) fn add_shared(&mut self, netns: u32) {
        self.shared.insert(netns);
    }

    /// Whether `netns` is a pod's own. Where the host's is not known, no namespace is: a process
    /// of the host would be taken for a pod's proxy.
    pub(crate) fn is_pods_own(&self, netns: u32) -> bool {
        self.host.is_some_and(|host| host != netns) && !self.shared.contains(&netns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_pods_own_unless_it_is_a_nodes() {
        let mut nodes = NodeNamespaces::default();
        nodes.set_host(Some(1));
        assert!(!nodes.is_pods_own(1));
        assert!(nodes.is_pods_own(2));
        nodes.add_shared(2);
        assert!(!nodes.is_pods_own(2));
        assert!(nodes.is_pods_own(3));
    }

    #[test]
    fn without_the_hosts_namespace_none_is_a_pods_own() {
        let mut nodes = NodeNamespaces::default();
        assert!(!nodes.is_pods_own(2));
        nodes.set_host(None);
        assert!(!nodes.is_pods_own(2));
    }
}
