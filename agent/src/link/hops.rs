//! What proxies in the activator's pod make of its connections: their own connections on the
//! watched port explain a failure, and never prove anything.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use statlink_ebpf::{End, Phase};

use super::{Cause, ConnectionId, HopEvent, end};
use crate::time::Timestamp;

/// How long before the link's own a hop's failure explains it.
const BEFORE: Duration = Duration::from_secs(1);
/// How long a hop's SYN goes unanswered before that is a failure.
const UNANSWERED: Duration = Duration::from_secs(1);
/// How many attempts under way, and how many failures, are remembered.
const REMEMBERED: usize = 64;

/// The connections of all hops of one link.
#[derive(Clone, Debug, Default)]
pub(super) struct Hops {
    /// Attempts whose SYN is not answered, and since when.
    connecting: BTreeMap<ConnectionId, (Timestamp, SocketAddr)>,
    /// In the order in which they were told.
    failures: VecDeque<Failure>,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    at: Timestamp,
    peer: SocketAddr,
    cause: Cause,
}

impl Hops {
    /// A hop's connection to `peer` has come to this.
    pub(super) fn told(
        &mut self,
        at: Timestamp,
        connection: ConnectionId,
        peer: SocketAddr,
        event: HopEvent,
    ) {
        match event {
            HopEvent::Attempted => {
                if self.connecting.len() >= REMEMBERED {
                    self.connecting.pop_first();
                }
                self.connecting.insert(connection, (at, peer));
            }
            HopEvent::Established => {
                self.connecting.remove(&connection);
            }
            HopEvent::Stalled => self.failed(at, peer, Cause::Stalled),
            HopEvent::Ended { phase, how } => {
                self.connecting.remove(&connection);
                if let Some(cause) = cause(phase, how) {
                    self.failed(at, peer, cause);
                }
            }
        }
    }

    fn failed(&mut self, at: Timestamp, peer: SocketAddr, cause: Cause) {
        if self.failures.len() >= REMEMBERED {
            self.failures.pop_front();
        }
        self.failures.push_back(Failure { at, peer, cause });
    }

    /// Which hop's failure, if any, is behind the failure at `at` of a connection that `began`
    /// then, for this cause of its own: one that came before belongs to an earlier connection. Of a
    /// stall, everything since the peer was last `heard`.
    pub(super) fn explain(
        &self,
        at: Timestamp,
        own: Cause,
        began: Timestamp,
        heard: Option<Timestamp>,
    ) -> Option<(SocketAddr, Cause)> {
        let since = match own {
            Cause::HandshakeFailed | Cause::ConnectionReset | Cause::PeerClosed => at - BEFORE,
            Cause::Stalled => heard.unwrap_or(at).min(at - BEFORE),
            // Not the doing of who is behind the socket that the activator talks to.
            Cause::ConnectionRefused
            | Cause::Timeout
            | Cause::Cancelled
            | Cause::HostUnreachable
            | Cause::NetworkUnreachable
            | Cause::PermissionDenied
            | Cause::AddressUnavailable
            | Cause::LocalClosed
            | Cause::WrongPeer
            | Cause::Dns
            | Cause::NoAttempt
            | Cause::Other => return None,
        }
        .max(began);
        let failed = self
            .failures
            .iter()
            .filter(|failure| (since..=at).contains(&failure.at))
            .max_by_key(|failure| failure.at)
            .map(|failure| (failure.peer, failure.cause));
        failed.or_else(|| {
            self.connecting
                .values()
                .find(|(since, _)| *since + UNANSWERED <= at)
                .map(|(_, peer)| (*peer, Cause::Timeout))
        })
    }
}

/// Why a hop's connection failed; `None` if the hop itself ended it, as it does when the
/// activator closes.
fn cause(phase: Phase, how: End) -> Option<Cause> {
    // A SYN that it gave up on had gone unanswered.
    if end::is_local(how) && how != End::Unanswered {
        return None;
    }
    Some(match phase {
        Phase::Connecting => end::of_connecting(how),
        Phase::Established => end::of_handshaking(how),
        Phase::Held => end::of_live(how),
    })
}
