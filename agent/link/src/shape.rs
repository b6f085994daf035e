//! Which state machine a kind of link has.

use crate::{Fanout, Link, LinkMachine, time::Timestamp};

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
