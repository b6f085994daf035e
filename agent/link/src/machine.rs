//! What the agent's loop drives: one peer at one address after the other, or several at a time.

use std::{net::SocketAddr, time::Duration};

use super::{ConnectionId, Counts, Fanout, Input, Link, Output, State};
use crate::time::Timestamp;

/// A state machine between one process and one peer.
///
/// Who calls what, and when, is [`Link`]'s contract.
pub trait LinkMachine: Send {
    /// Takes in one input, that became true at `at`.
    fn handle(&mut self, at: Timestamp, input: Input, outputs: &mut Vec<Output>);

    /// When [`on_deadline`](Self::on_deadline) is to be called next; `None` while nothing is due.
    fn next_deadline(&self) -> Option<Timestamp>;

    /// Does what is due by `now`. Early, it does nothing.
    fn on_deadline(&mut self, now: Timestamp, outputs: &mut Vec<Output>);

    /// What it is now.
    fn state(&self) -> State;

    /// What it has counted since the discovery.
    fn counts(&self) -> Counts;

    /// The address that tells most: of what is not reachable, or else of a live connection, or
    /// else of the last attempt.
    fn peer_address(&self) -> Option<SocketAddr>;

    /// A live connection to each address that has one.
    fn live(&self) -> Vec<ConnectionId>;

    /// Smoothed round-trip time of the live connection; the longest of several.
    fn rtt(&self) -> Option<Duration>;

    /// When the peer was last heard; of several addresses, the one not heard for longest.
    fn heard(&self) -> Option<Timestamp>;
}

/// How a process is connected to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Always, and whatever the address: one [`Link`].
    One,
    /// To each of several addresses, which come and go: a [`Fanout`].
    PerDestination,
}

impl Shape {
    /// The machine of a process that was discovered at `at`.
    pub fn discovered(self, at: Timestamp) -> Box<dyn LinkMachine> {
        match self {
            Self::One => Box::new(Link::discovered(at)),
            Self::PerDestination => Box::new(Fanout::default()),
        }
    }
}

impl LinkMachine for Link {
    fn handle(&mut self, at: Timestamp, input: Input, outputs: &mut Vec<Output>) {
        self.handle(at, input, outputs);
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.next_deadline()
    }

    fn on_deadline(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        self.on_deadline(now, outputs);
    }

    fn state(&self) -> State {
        self.state()
    }

    fn counts(&self) -> Counts {
        self.counts().clone()
    }

    fn peer_address(&self) -> Option<SocketAddr> {
        self.peer_address()
    }

    fn live(&self) -> Vec<ConnectionId> {
        self.live().map(|(id, _)| id).into_iter().collect()
    }

    fn rtt(&self) -> Option<Duration> {
        self.live().and_then(|(_, rtt)| rtt)
    }

    fn heard(&self) -> Option<Timestamp> {
        self.heard()
    }
}
