//! Whether a link is reachable: how outages begin and end, and what is blamed for them.

use std::net::SocketAddr;

use super::{Cause, Connection, EventKind, Link, Output};
use crate::time::Timestamp;

/// Where the link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Never reachable yet, and not due to be.
    Starting {
        grace_ends: Timestamp,
    },
    Reachable {
        since: Option<Timestamp>,
    },
    Unreachable {
        since: Timestamp,
        /// The cause at onset, or the first that became known.
        onset: Cause,
    },
    Ended,
}

/// A cause, and the proxy whose failure it was, if it was one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) cause: Cause,
    pub(super) proxy: Option<SocketAddr>,
}

impl From<Cause> for Why {
    fn from(cause: Cause) -> Self {
        Self { cause, proxy: None }
    }
}

impl Link {
    pub(super) fn begin_outage(
        &mut self,
        at: Timestamp,
        why: Why,
        peer: Option<SocketAddr>,
        outputs: &mut Vec<Output>,
    ) {
        let Why { cause, proxy } = why;
        match self.reach {
            Reach::Starting { .. } | Reach::Reachable { .. } => {
                self.reach = Reach::Unreachable {
                    since: at,
                    onset: cause,
                };
                outputs.push(Output::event(
                    at,
                    EventKind::Unreachable {
                        cause,
                        peer_address: peer,
                        proxy_address: proxy,
                        attempts: self.trouble.attempts(),
                    },
                ));
            }
            Reach::Unreachable { .. } | Reach::Ended => {}
        }
    }

    /// There is a live connection `since`; if that is longer than known, since `at`.
    pub(super) fn begin_reachable(
        &mut self,
        since: Option<Timestamp>,
        at: Timestamp,
        peer: SocketAddr,
        outputs: &mut Vec<Output>,
    ) {
        let (since, at, outage) = match self.reach {
            Reach::Reachable { .. } | Reach::Ended => return,
            Reach::Starting { .. } => (since, at, None),
            Reach::Unreachable {
                since: began,
                onset,
            } => {
                // It may have answered before the outage began, and be confirmed only now.
                let at = at.max(began);
                let errors = self.counts.total_errors();
                let outage = self.trouble.outage(began, at, onset, errors);
                (Some(at), at, Some(outage))
            }
        };
        self.reach = Reach::Reachable { since };
        self.trouble.clear();
        self.lookups.reachable();
        if let Some(target) = &mut self.target {
            target.was_live();
        }
        outputs.push(Output::event(
            at,
            EventKind::Reachable {
                peer_address: peer,
                outage,
            },
        ));
    }

    /// Nothing follows.
    pub(super) fn finish(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        self.reach = Reach::Ended;
        self.connections.clear();
        outputs.push(Output::event(at, EventKind::Ended));
    }

    /// Something at `at` tells why the link is, or would be, unreachable.
    pub(super) fn blame(&mut self, at: Timestamp, why: Why, outputs: &mut Vec<Output>) {
        let Why { cause, proxy } = why;
        if self.last_cause.is_some_and(|(newest, _)| newest > at) {
            return;
        }
        self.last_cause = Some((at, why));
        match &mut self.reach {
            Reach::Unreachable { onset, .. } if *onset == Cause::Other && cause != *onset => {
                *onset = cause;
                outputs.push(Output::event(
                    at,
                    EventKind::Unreachable {
                        cause,
                        peer_address: self.last_peer,
                        proxy_address: proxy,
                        attempts: self.trouble.attempts(),
                    },
                ));
            }
            Reach::Unreachable { .. }
            | Reach::Starting { .. }
            | Reach::Reachable { .. }
            | Reach::Ended => {}
        }
    }

    /// What ended the last live connection or the last attempt, whichever is newer.
    pub(super) fn cause(&self) -> Cause {
        self.why().cause
    }

    pub(super) fn why(&self) -> Why {
        self.last_cause.map_or(Cause::Other.into(), |(_, why)| why)
    }

    /// The cause of a connection's failure at `at`, or the proxy's failure behind it.
    pub(super) fn explained(&self, connection: &Connection, at: Timestamp, own: Cause) -> Why {
        let (began, heard) = (connection.began(), connection.heard());
        match self.proxies.explain(at, own, began, heard) {
            Some((peer, cause)) => Why {
                cause,
                proxy: Some(peer),
            },
            None => own.into(),
        }
    }
}
