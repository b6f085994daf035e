//! Whether a network namespace is a pod's own or a node's.
//!
//! In a pod's own namespace every other process that connects to the watched port is a proxy of
//! that pod. In a node's namespace it may be any process.

use std::collections::BTreeSet;

/// The known network namespaces of nodes, by inode number.
#[derive(Debug, Default)]
pub(crate) struct NodeNamespaces {
    /// The namespace of the kernel's threads; `None` if unknown.
    host: Option<u32>,
    /// Namespaces of nodes that are containers themselves (like kind's), found by the pods that
    /// share them.
    shared: BTreeSet<u32>,
}

impl NodeNamespaces {
    /// Sets the host's namespace; `None` if the kernel does not say.
    pub(crate) fn set_host(&mut self, netns: Option<u32>) {
        self.host = netns;
    }

    /// A pod with `hostNetwork: true` runs in `netns`, so it is a node's.
    pub(crate) fn add_shared(&mut self, netns: u32) {
        self.shared.insert(netns);
    }

    /// Whether `netns` is a pod's own. While the host's is unknown, no namespace counts as one: a
    /// process of the host would be taken for a pod's proxy.
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
