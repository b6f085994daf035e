//! Blame: which cause is shown if there are several.

use std::net::SocketAddr;

use crate::{Cause, ConnectionId, ProxyEvent, finding::Facts, proxies::Proxies, time::Timestamp};

/// The newest cause, and failures of proxies that may explain the next one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blame {
    /// The newest loss, failed attempt or lack of attempts.
    newest: Option<(Timestamp, Why)>,
    proxies: Proxies,
}

/// A cause, and the proxy's address if the failure was a proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) cause: Cause,
    /// The destination of the proxy's connection.
    pub(crate) proxy: Option<SocketAddr>,
}

impl From<Cause> for Why {
    fn from(cause: Cause) -> Self {
        Self { cause, proxy: None }
    }
}

impl Blame {
    /// What ended the last live connection or the last attempt, whichever is newer.
    pub(crate) fn why(&self) -> Why {
        self.newest.map_or(Cause::Other.into(), |(_, why)| why)
    }

    /// This happened at `at`; returns `false` if something newer is known.
    pub(crate) fn put_on(&mut self, at: Timestamp, why: Why) -> bool {
        if self.newest.is_some_and(|(newest, _)| newest > at) {
            return false;
        }
        self.newest = Some((at, why));
        true
    }

    /// A proxy's connection reported this event.
    pub(crate) fn proxy(
        &mut self,
        at: Timestamp,
        connection: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        event: ProxyEvent,
    ) {
        self.proxies.record(at, connection, peer, attempted, event);
    }

    /// The cause of a connection's failure at `at`: its own, or the proxy's failure behind it.
    pub(crate) fn explain(&self, of: Facts, at: Timestamp, own: Cause) -> Why {
        match self.proxies.explain(&of, at, own) {
            Some((peer, cause)) => Why {
                cause,
                proxy: Some(peer),
            },
            None => own.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_causes_of_one_moment_the_later_told_is_blamed_and_an_older_one_never() {
        let at = Timestamp::from_nanos;
        let mut blame = Blame::default();
        assert!(blame.put_on(at(2), Cause::Timeout.into()));
        assert!(blame.put_on(at(2), Cause::ConnectionRefused.into()));
        assert!(!blame.put_on(at(1), Cause::Dns.into()));
        assert_eq!(blame.why(), Cause::ConnectionRefused.into());
    }
}
