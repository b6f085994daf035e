//! Whether a connection goes to the right address: the rules of `wrong_peer`.
//!
//! What a connection's destination is judged by, the set of the peer's addresses, comes from
//! somewhere else than the connection, and may be seconds late. So:
//!
//! - While nothing is known, nothing is wrong.
//! - Who once went to an address of the peer goes on being right: a pod's address leaves the set
//!   before the pod closes.
//! - Who goes to another one is in doubt for [`DOUBT`]. Until then its end or its upgrade decides
//!   nothing; if its address turns up, it has been right all along. After that it is wrong.
//! - Who is wrong fails its connect check, for [`Cause::WrongPeer`] whatever else would be the
//!   cause, and never makes the link reachable. One that was live before anything was known is
//!   lost. If its address turns up after all while it is open, it counts from then on.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use super::{Cause, Connection, Link, Output, connection::Ending, end, tracking::SETTLE};
use crate::time::Timestamp;

/// What is known about where a connection goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// No address of the peer was known yet.
    Unknown,
    /// To an address of the peer.
    Right,
    /// To none, unless the set is late.
    Doubtful {
        until: Timestamp,
        /// Its end, if that came before the doubt was over.
        ended: Option<Ending>,
    },
    /// To none.
    Wrong,
}

impl Link {
    /// The peer's addresses are `addresses`, from `at` on; `None`: not known.
    pub(super) fn peer_addresses(
        &mut self,
        at: Timestamp,
        addresses: Option<BTreeSet<IpAddr>>,
        outputs: &mut Vec<Output>,
    ) {
        self.addresses =
            addresses.map(|addresses| addresses.iter().map(IpAddr::to_canonical).collect());
        let ids: Vec<_> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(mut connection) = self.connections.remove(&id) else {
                continue;
            };
            match (self.standing(&connection, at), connection.standing()) {
                (Standing::Unknown | Standing::Right, Standing::Right) => {}
                (good @ (Standing::Unknown | Standing::Right), _) => {
                    let held = connection.acquit(good, at);
                    if let Some(ending) = held {
                        self.end(connection, &ending, outputs);
                        continue;
                    }
                }
                (doubt, Standing::Unknown) if connection.closed().is_none() => {
                    connection.stand(doubt);
                }
                _ => {}
            }
            self.connections.insert(id, connection);
        }
    }

    /// Where a connection stands that is seen for the first time at `at`.
    pub(super) fn standing(&self, connection: &Connection, at: Timestamp) -> Standing {
        match &self.addresses {
            None => Standing::Unknown,
            Some(addresses) if addresses.contains(&connection.peer.ip().to_canonical()) => {
                Standing::Right
            }
            Some(_) => Standing::Doubtful {
                until: at + DOUBT,
                ended: None,
            },
        }
    }

    /// The doubt about `connection`, which is not in the map any more, is over: it is wrong.
    pub(super) fn condemn(
        &mut self,
        mut connection: Connection,
        at: Timestamp,
        outputs: &mut Vec<Output>,
    ) {
        let held = connection.held();
        let was_live = connection.condemn(at);
        if let Some(ending) = held {
            self.end(connection, &ending, outputs);
            return;
        }
        let peer = connection.peer;
        self.connections.insert(connection.id, connection);
        if was_live {
            self.lost(peer, at, Cause::WrongPeer.into(), outputs);
        }
    }

    /// The process has ended at `at`: what ended before, and was in doubt, is decided now.
    pub(super) fn decide_doubts(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        let held: Vec<_> = self
            .connections
            .values()
            .filter_map(|connection| Some((connection.id, connection.held()?)))
            // Such an end is the process's own.
            .filter(|(_, ending)| !(end::is_local(ending.how) && at <= ending.at + SETTLE))
            .collect();
        for (id, ending) in held {
            if let Some(mut connection) = self.connections.remove(&id) {
                connection.condemn(at);
                let verdict = connection.verdict(ending.how, ending.errno);
                self.decide(&connection, ending.at, verdict, outputs);
            }
        }
    }
}

/// How long the set of the peer's addresses may be behind a connection.
const DOUBT: Duration = Duration::from_secs(2);
