//! Whether a connection goes to the right address: the rules of `wrong_peer`.
//!
//! What a destination is judged by, the set of the peer's addresses, comes from the Kubernetes
//! API, and may be seconds late. So:
//!
//! - While no set is known, nothing is wrong.
//! - A connection that was accepted as right stays right: a pod's address leaves the set before the
//!   pod closes.
//! - A connection to another address is in doubt for [`DOUBT`]. Until then its end or its upgrade
//!   decides nothing; if its address turns up, it has been right all along. After that it is wrong.
//! - A wrong connection fails its connect check, for [`Cause::WrongPeer`](crate::Cause::WrongPeer)
//!   whatever else would be the cause, and never makes the link reachable. One that was live before
//!   the set was known is lost. If its address turns up after all while it is open, it counts from
//!   then on.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use crate::{time::Timestamp, timings::DOUBT};

/// What is known about where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressCheck {
    /// No address of the peer was known yet.
    Unknown,
    /// To an address of the peer.
    Right,
    /// To none, unless the set is late.
    Doubtful { until: Timestamp },
    /// To none.
    Wrong,
}

/// The peer's addresses, where they are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerAddresses {
    /// Nothing while they are not current.
    current: Option<BTreeSet<IpAddr>>,
    /// What they were last.
    last: Option<BTreeSet<IpAddr>>,
}

impl PeerAddresses {
    /// The set as it is from now on; an IPv4 address that is mapped into IPv6 is the same.
    pub(crate) fn update(&mut self, addresses: Option<BTreeSet<IpAddr>>) {
        self.current =
            addresses.map(|addresses| addresses.iter().map(IpAddr::to_canonical).collect());
        if self.current.is_some() {
            self.last.clone_from(&self.current);
        }
    }

    /// Whether `peer` is one of them, or was when they were last known: that the API goes away makes
    /// nobody a proxy who was none.
    pub(crate) fn may_include(&self, peer: SocketAddr) -> bool {
        let known = self.last.as_ref();
        known.is_none_or(|addresses| addresses.contains(&peer.ip().to_canonical()))
    }

    /// What this says about a connection to `peer` that is seen for the first time at `at`.
    pub(crate) fn check(&self, peer: SocketAddr, at: Timestamp) -> AddressCheck {
        match &self.current {
            None => AddressCheck::Unknown,
            Some(addresses) if addresses.contains(&peer.ip().to_canonical()) => AddressCheck::Right,
            Some(_) => AddressCheck::Doubtful { until: at + DOUBT },
        }
    }
}
