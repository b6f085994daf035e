//! What proxies explain: a proxy in the client's pod accepts its connection and opens one of its
//! own. That one may explain a failure, and never proves that the link is reachable.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use crate::{
    Cause, ConnectionId, ProxyEvent,
    cause::ProxyEvidence,
    limits::PROXIED,
    time::Timestamp,
    timings::{PROXY_BEFORE, PROXY_DECIDED, PROXY_UNANSWERED},
};

/// The connections of all proxies of one link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    /// Attempts whose SYN is not answered, or was a moment ago.
    connecting: BTreeMap<ConnectionId, Attempt>,
    /// In the order in which they were recorded.
    failures: VecDeque<Failure>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    since: Timestamp,
    /// When it was decided. An end of the client's connection that came before is judged later:
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
    pub(crate) fn record(
        &mut self,
        at: Timestamp,
        connection: ConnectionId,
        peer: SocketAddr,
        event: ProxyEvent,
    ) {
        match event {
            ProxyEvent::Attempted => {
                self.connecting.retain(|_, attempt| {
                    attempt.until.is_none_or(|until| until + PROXY_DECIDED > at)
                });
                if self.connecting.len() >= PROXIED {
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
                if let Some(cause) = Cause::of_a_proxy(phase, how) {
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
        if self.failures.len() >= PROXIED {
            self.failures.pop_front();
        }
        self.failures.push_back(Failure { at, peer, cause });
    }

    /// Which proxy's failure, if any, is behind the failure at `at` of a connection that `began`
    /// then and failed for this cause of its `own`.
    ///
    /// What a proxy did before the connection began belongs to an earlier one: its failures, and
    /// its dials, whose ends may have been lost. On a connection that stalls, failures count since
    /// the peer was last `heard`.
    pub(crate) fn explain(
        &self,
        at: Timestamp,
        own: Cause,
        began: Timestamp,
        heard: Option<Timestamp>,
    ) -> Option<(SocketAddr, Cause)> {
        let since = match own.proxy_evidence()? {
            ProxyEvidence::SinceItBegan => began,
            ProxyEvidence::JustBefore => at - PROXY_BEFORE,
            ProxyEvidence::SinceHeard => heard.unwrap_or(at).min(at - PROXY_BEFORE),
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
                        && attempt.since + PROXY_UNANSWERED <= at
                        && attempt.until.is_none_or(|until| until > at)
                })
                .map(|attempt| (attempt.peer, Cause::Timeout))
        })
    }
}
