//! Whether a connection goes to the right address: the rules of `wrong_peer`.
//!
//! The Kubernetes API provides the peer's addresses, and may be seconds late. So:
//!
//! - While no set is known, nothing is wrong.
//! - A connection that was accepted as right stays right: a pod's address leaves the set before the
//!   pod closes.
//! - A connection to another address is in doubt for [`DOUBT`]. Until then its end or its upgrade
//!   decides nothing. If its address appears in the set meanwhile, the connection was right all
//!   along; otherwise it is wrong.
//! - A wrong connection fails its connect check with [`Cause::WrongPeer`](crate::Cause::WrongPeer),
//!   whatever else would be the cause, and never makes the link reachable. A connection that was
//!   live before the set was known is lost. If its address appears while it is open, it counts from
//!   then on.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use crate::{time::Timestamp, timings::DOUBT};

/// What is known about a connection's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressCheck {
    /// No address of the peer was known yet.
    Unknown,
    /// To an address of the peer.
    Right,
    /// To another address, unless the set is late.
    Doubtful { until: Timestamp },
    /// To another address.
    Wrong,
}

/// The peer's addresses, where they are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerAddresses {
    /// `None` while they are not current.
    current: Option<BTreeSet<IpAddr>>,
    /// The last known set.
    last: Option<BTreeSet<IpAddr>>,
}

impl PeerAddresses {
    /// Sets the addresses that hold from now on. An IPv4 address that is mapped into IPv6 counts as
    /// the IPv4 address.
    pub(crate) fn update(&mut self, addresses: Option<BTreeSet<IpAddr>>) {
        self.current =
            addresses.map(|addresses| addresses.iter().map(IpAddr::to_canonical).collect());
        if self.current.is_some() {
            self.last.clone_from(&self.current);
        }
    }

    /// Whether `peer` is one of them, or was one when they were last known: losing the API must not
    /// turn another process into a proxy.
    pub(crate) fn may_include(&self, peer: SocketAddr) -> bool {
        let known = self.last.as_ref();
        known.is_none_or(|addresses| addresses.contains(&peer.ip().to_canonical()))
    }

    /// The verdict on a connection to `peer` that is first seen at `at`.
    pub(crate) fn check(&self, peer: SocketAddr, at: Timestamp) -> AddressCheck {
        match &self.current {
            None => AddressCheck::Unknown,
            Some(addresses) if addresses.contains(&peer.ip().to_canonical()) => AddressCheck::Right,
            Some(_) => AddressCheck::Doubtful { until: at + DOUBT },
        }
    }
}
