//! The shape of a kind of link: which state machine it has.

use crate::{Fanout, Link, LinkMachine, time::Timestamp};

/// How a process connects to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Always, to one peer at any address: one [`Link`].
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
