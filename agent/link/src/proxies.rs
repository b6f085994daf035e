//! What proxies in the activator's pod make of its connections: their own connections on the
//! watched port explain a failure, and never prove anything.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use statlink_ebpf::{End, Phase};

use super::{Cause, ConnectionId, ProxyEvent, end};
use crate::time::Timestamp;

/// How long before the end of a live connection a proxy's failure explains it.
const BEFORE: Duration = Duration::from_secs(1);
/// How long a proxy's SYN goes unanswered before that is a failure.
const UNANSWERED: Duration = Duration::from_secs(1);
/// How long an attempt that was decided is remembered: no end is judged later than that.
const DECIDED: Duration = Duration::from_secs(1);
/// How many attempts under way, and how many failures, are remembered.
const REMEMBERED: usize = 64;

/// The connections of all proxies of one link.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    /// Attempts whose SYN is not answered, or was a moment ago.
    connecting: BTreeMap<ConnectionId, Attempt>,
    /// In the order in which they were told.
    failures: VecDeque<Failure>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    since: Timestamp,
    /// When it was decided. An end of the activator's connection that came before is judged later:
    /// a close settles first.
    until: Option<Timestamp>,
    peer: SocketAddr,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    at: Timestamp,
    peer: SocketAddr,
    cause: Cause,
}

impl Proxies {
    /// A proxy's connection to `peer` has come to this.
    pub(super) fn told(
        &mut self,
        at: Timestamp,
        connection: ConnectionId,
        peer: SocketAddr,
        event: ProxyEvent,
    ) {
        match event {
            ProxyEvent::Attempted => {
                self.connecting
                    .retain(|_, attempt| attempt.until.is_none_or(|until| until + DECIDED > at));
                if self.connecting.len() >= REMEMBERED {
                    self.connecting.pop_first();
                }
                let attempt = Attempt {
                    since: at,
                    until: None,
                    peer,
                };
                self.connecting.insert(connection, attempt);
            }
            ProxyEvent::Established => self.decided(at, connection),
            ProxyEvent::Stalled => self.failed(at, peer, Cause::Stalled),
            ProxyEvent::Ended { phase, how } => {
                self.decided(at, connection);
                if let Some(cause) = cause(phase, how) {
                    self.failed(at, peer, cause);
                }
            }
        }
    }

    fn decided(&mut self, at: Timestamp, connection: ConnectionId) {
        if let Some(attempt) = self.connecting.get_mut(&connection) {
            attempt.until.get_or_insert(at);
        }
    }

    fn failed(&mut self, at: Timestamp, peer: SocketAddr, cause: Cause) {
        if self.failures.len() >= REMEMBERED {
            self.failures.pop_front();
        }
        self.failures.push_back(Failure { at, peer, cause });
    }

    /// Which proxy's failure, if any, is behind the failure at `at` of a connection that `began`
    /// then, for this cause of its own: one that came before belongs to an earlier connection, and
    /// so does a dial, whose end may never have been told. Of a handshake, all since; of a stall,
    /// all since the peer was last `heard`.
    pub(super) fn explain(
        &self,
        at: Timestamp,
        own: Cause,
        began: Timestamp,
        heard: Option<Timestamp>,
    ) -> Option<(SocketAddr, Cause)> {
        let since = match own {
            Cause::HandshakeFailed => began,
            Cause::ConnectionReset | Cause::PeerClosed => at - BEFORE,
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
                .find(|attempt| {
                    attempt.since >= began
                        && attempt.since + UNANSWERED <= at
                        && attempt.until.is_none_or(|until| until > at)
                })
                .map(|attempt| (attempt.peer, Cause::Timeout))
        })
    }
}

/// Why a proxy's connection failed; `None` if the proxy itself ended it, as it does when the
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
