//! Proxies: a proxy in the client's pod accepts its connection and opens one of its own. That one
//! may explain a failure, and never proves that the link is reachable.
//!
//! Other processes in the pod dial the port, too, such as an engineer's curl. The kernel half does
//! not see which process accepted the client's connection, but whether one in the pod did: its
//! packets then arrive over the pod's loopback. If they arrive from elsewhere, it has no proxy.
//! Otherwise, a proxy differs by the time of its dial: it dials for the client's connection, so
//! right after that began, and before the client gets its answer, which comes through the proxy. A
//! connection that began at another moment is not a proxy's. Nor is one with another destination
//! than the peer, if the peer's addresses are known; the caller checks that.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use crate::{
    Cause, ConnectionId, ProxyEvent,
    cause::ProxyEvidence,
    finding::Facts,
    limits::PROXIED,
    time::Timestamp,
    timings::{PROXY_BEFORE, PROXY_DECIDED, PROXY_DIALS, PROXY_TICK, PROXY_UNANSWERED},
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
    /// When it was decided. An earlier end of the client's connection may be judged later, because
    /// a close settles first.
    until: Option<Timestamp>,
    peer: SocketAddr,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    at: Timestamp,
    /// When the connection was attempted; `None` for one from before the agent.
    attempted: Option<Timestamp>,
    peer: SocketAddr,
    cause: Cause,
}

impl Proxies {
    /// A proxy's connection to `peer` reported this event.
    pub(crate) fn record(
        &mut self,
        at: Timestamp,
        connection: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        event: ProxyEvent,
    ) {
        let failure = |cause| Failure {
            at,
            attempted,
            peer,
            cause,
        };
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
            ProxyEvent::Stalled => self.failed(failure(Cause::Stalled)),
            ProxyEvent::Ended { phase, how } => {
                self.decided(at, connection);
                if let Some(cause) = Cause::of_a_proxy(phase, how) {
                    self.failed(failure(cause));
                }
            }
        }
    }

    fn decided(&mut self, at: Timestamp, connection: ConnectionId) {
        if let Some(attempt) = self.connecting.get_mut(&connection) {
            attempt.until.get_or_insert(at);
        }
    }

    fn failed(&mut self, failure: Failure) {
        if self.failures.len() >= PROXIED {
            self.failures.pop_front();
        }
        self.failures.push_back(failure);
    }

    /// Which proxy's failure, if any, explains the failure at `at` of the client's connection `of`,
    /// which failed with its `own` cause.
    ///
    /// For a connection that stalls, failures count since the peer was last heard.
    pub(crate) fn explain(
        &self,
        of: &Facts,
        at: Timestamp,
        own: Cause,
    ) -> Option<(SocketAddr, Cause)> {
        // Its packets leave the pod: no proxy has accepted it.
        if of.looped == Some(false) {
            return None;
        }
        let since = match own.proxy_evidence()? {
            ProxyEvidence::SinceItBegan => of.began,
            ProxyEvidence::JustBefore => at - PROXY_BEFORE,
            ProxyEvidence::SinceHeard => of.heard.unwrap_or(at).min(at - PROXY_BEFORE),
        }
        .max(of.began);
        let failed = self
            .failures
            .iter()
            .filter(|failure| (since..=at).contains(&failure.at))
            .filter(|failure| is_hop(failure.attempted, of))
            .max_by_key(|failure| failure.at)
            .map(|failure| (failure.peer, failure.cause));
        failed.or_else(|| {
            self.connecting
                .values()
                .filter(|attempt| is_hop(Some(attempt.since), of))
                .find(|attempt| {
                    attempt.since + PROXY_UNANSWERED <= at
                        && attempt.until.is_none_or(|until| until > at)
                })
                .map(|attempt| (attempt.peer, Cause::Timeout))
        })
    }
}

/// Whether a connection that was `attempted` then belongs to the proxy of the client's connection
/// `of`.
fn is_hop(attempted: Option<Timestamp>, of: &Facts) -> bool {
    match (attempted, of.attempted) {
        (Some(attempted), Some(began)) => {
            let answered = of.answered.map(|answered| answered + PROXY_TICK);
            let latest = answered.into_iter().fold(began + PROXY_DIALS, Ord::min);
            (began..=latest).contains(&attempted)
        }
        // Both are older than the agent, so the proxy's existed together with the client's.
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use statlink_ebpf::{End, Phase};

    use super::*;

    /// When connect() of the client's connection was called.
    const BEGAN: Timestamp = Timestamp::from_nanos(50_000_000_000);

    fn after(milliseconds: u64) -> Timestamp {
        BEGAN + Duration::from_millis(milliseconds)
    }

    fn to(host: u8) -> SocketAddr {
        (Ipv4Addr::new(10, 0, 0, host), 8080).into()
    }

    fn client() -> Facts {
        Facts {
            peer: to(1),
            attempted: Some(BEGAN),
            began: BEGAN,
            answered: None,
            heard: None,
            looped: None,
            counts_connect: true,
        }
    }

    /// Dials of `host` at these times, all refused 1 ms later.
    fn refused(dials: &[(u8, u64)]) -> Proxies {
        let mut proxies = Proxies::default();
        for &(host, dialled) in dials {
            let born = after(dialled);
            let id = ConnectionId {
                sock: host.into(),
                born,
            };
            let ended = ProxyEvent::Ended {
                phase: Phase::Connecting,
                how: End::Refused,
            };
            let at = after(dialled + 1);
            proxies.record(at, id, to(host), Some(born), ended);
        }
        proxies
    }

    #[test]
    fn a_dial_that_is_nobodys_hop_does_not_displace_the_hop_s() {
        let proxies = refused(&[(2, 1), (3, 2_000)]);
        let why = proxies.explain(&client(), after(2_100), Cause::HandshakeFailed);
        assert_eq!(why, Some((to(2), Cause::ConnectionRefused)));
    }

    #[test]
    fn a_failure_within_a_second_before_a_stall_explains_it_though_the_peer_was_heard_since() {
        let of = Facts {
            heard: Some(after(900)),
            ..client()
        };
        let why = refused(&[(2, 1)]).explain(&of, after(1_000), Cause::Stalled);
        assert_eq!(why, Some((to(2), Cause::ConnectionRefused)));
        let why = refused(&[(2, 1)]).explain(&of, after(1_003), Cause::Stalled);
        assert_eq!(why, None);
    }

    #[test]
    fn a_hop_that_waits_for_a_second_explains_until_it_is_answered() {
        let id = ConnectionId {
            sock: 2,
            born: BEGAN,
        };
        let mut proxies = Proxies::default();
        proxies.record(after(1), id, to(2), None, ProxyEvent::Attempted);
        let explained = |proxies: &Proxies, at| {
            let why = proxies.explain(&client(), after(at), Cause::HandshakeFailed);
            why == Some((to(2), Cause::Timeout))
        };
        assert!(!explained(&proxies, 1_000));
        assert!(explained(&proxies, 1_001));
        proxies.record(after(1_500), id, to(2), None, ProxyEvent::Established);
        assert!(explained(&proxies, 1_499));
        assert!(!explained(&proxies, 1_500));
    }
}
