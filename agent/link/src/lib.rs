//! The state machine of one link: facts and time in, outcomes out.
//!
//! It reads no clock, does no I/O, logs nothing and draws no random number; its
//! [driver](Link#who-calls-what) does. The same facts at the same times give the same result.
//!
//! [`Link`] holds the contract. What falls due on it is in `timers`, what befalls its connections
//! in `tracking`, and when it is reachable, and why not, in `reachability`. What can be said of one
//! connection by itself is in `connection`, what an end means in `end`, whether it goes to the
//! right address in `standing`, what a proxy's connections explain in `hops`, what lookups of names
//! tell in `lookups`, what is remembered for an outage's story in `trouble`, and how a link is
//! brought up to date after records were lost in `resync`.
//!
//! A process that dials several addresses has a [`Fanout`]: a link to each, which is a `target`.
//! [`Machine`] is what both have in common.

pub mod time;

mod cause;
mod check;
mod connection;
mod end;
mod fact;
mod fanout;
mod hops;
mod lookups;
mod machine;
mod outcome;
mod reachability;
mod resync;
mod standing;
mod target;
mod timers;
mod tombstones;
mod tracking;
mod trouble;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub use cause::Cause;
pub use check::{CheckKind, Counts};
pub use fact::{ConnectionId, Fact, HopEvent, Missed, OpenConnection, Sample};
pub use fanout::Fanout;
pub use machine::{Machine, Shape};
pub use outcome::{FailedAttempt, Outage, Outcome, Status};
pub use trouble::ATTEMPTS_TOLD;

use crate::time::Timestamp;
use connection::{Connection, Ending};
use hops::Hops;
use lookups::Lookups;
use reachability::{Reach, Why};
use target::Target;
use timers::LIVENESS;
use tombstones::Tombstones;
use trouble::Trouble;

/// One activator and one peer: whether they are connected, since when, and why not.
///
/// # Who calls what
///
/// - [`handle`](Self::handle) with each fact and its time: the kernel's time of the event for
///   what the kernel half recorded, the clock for the rest.
/// - [`on_deadline`](Self::on_deadline) with the clock, once it has reached
///   [`next_deadline`](Self::next_deadline). Early, it does nothing. Facts that are waiting are
///   handed in first.
/// - After each of both, the outcomes are performed in their order. A
///   [`Outcome::Sample`] is answered by [`Fact::Sampled`] as soon as possible; unanswered, it is
///   asked again.
/// - The getters at any time. They tell the state as of the last call above.
///
/// # Time
///
/// Before it acts on a fact, the link does whatever was due up to the fact's time. So when
/// exactly the driver woke up makes no difference, with two deliberate exceptions. A driver that
/// slept through several liveness checks gets one, and the next is back on the 5 s grid: what
/// nobody watched is not an observation. And [`Fact::ProcessEnded`] comes before anything that
/// is due: a driver that was late learns of a killed process's closes and of its end at once.
///
/// A fact may be older than the one before. Time then stands still for what falls due, but what
/// the fact tells is dated by its own time. No length is ever negative.
///
/// # Duplicates, disorder and loss
///
/// A connection is named by its [`ConnectionId`]; each attempt and each loss of it is counted
/// once, whatever comes twice, late, or in another order. What is unknown at its end is counted
/// by what the end tells. Facts about a connection that is over are ignored; the last 256 of
/// those are remembered one by one, older ones by their birth. After lost records,
/// [`Fact::Resynchronised`] sets the counts right.
///
/// # Hops
///
/// A proxy in the pod takes the activator's connection and makes one of its own ([`Fact::Hop`]).
/// Such a connection never makes the link reachable. But where a handshake fails, or a live
/// connection stalls or is ended by its other side, and a hop's connection failed within the
/// second before (of a handshake: since it began; of a stall: since the peer was last heard), but
/// not before that connection began, that failure's cause is the cause; and [`Cause::Timeout`] is
/// where the SYN of a hop that dialled since that connection began has gone unanswered for 1 s. A
/// hop that closes its own connection explains nothing.
///
/// At most 1024 connections are tracked. Beyond, the oldest one that is not live is decided as
/// if its end had been lost ([`Cause::Other`]).
#[derive(Clone, Debug)]
pub struct Link {
    /// The latest time it was told.
    now: Timestamp,
    reach: Reach,
    next_liveness: Timestamp,
    connections: BTreeMap<ConnectionId, Connection>,
    tombstones: Tombstones,
    /// The peer's, where they are known.
    addresses: Option<BTreeSet<IpAddr>>,
    counts: Counts,
    /// The newest loss, failed attempt or lack of attempts.
    last_cause: Option<(Timestamp, Why)>,
    last_peer: Option<SocketAddr>,
    /// The newest start or end of anything.
    last_activity: Timestamp,
    hops: Hops,
    /// Since it was last reachable.
    trouble: Trouble,
    lookups: Lookups,
    /// What makes it a target; `None` for a link that lasts as long as its process.
    target: Option<Target>,
}

impl Link {
    /// The link of a process that was discovered at `at`. What it counts starts at 0.
    pub fn discovered(at: Timestamp) -> Self {
        Self {
            now: at,
            reach: Reach::Starting {
                grace_ends: at + START_UP_GRACE,
            },
            next_liveness: at + LIVENESS,
            connections: BTreeMap::new(),
            tombstones: Tombstones::default(),
            addresses: None,
            counts: Counts::default(),
            last_cause: None,
            last_peer: None,
            last_activity: at,
            hops: Hops::default(),
            trouble: Trouble::default(),
            lookups: Lookups::default(),
            target: None,
        }
    }

    /// Takes in one fact, that became true at `at`.
    pub fn handle(&mut self, at: Timestamp, fact: Fact, outcomes: &mut Vec<Outcome>) {
        if self.reach == Reach::Ended {
            return;
        }
        if fact != Fact::ProcessEnded {
            self.run_until(at, outcomes);
        }
        self.now = self.now.max(at);
        match fact {
            Fact::Attempted { connection, peer } => {
                self.attempted(at, connection, peer, outcomes);
            }
            Fact::Established {
                connection,
                peer,
                attempted,
            } => self.established(at, connection, peer, attempted, outcomes),
            Fact::RetransmissionTimeout {
                connection,
                timeouts,
            } => self.retransmission_timeout(at, connection, timeouts, outcomes),
            Fact::Ended {
                connection,
                peer,
                attempted,
                phase,
                how,
                errno,
                heard,
            } => {
                let ending = Ending {
                    at,
                    phase,
                    how,
                    errno,
                    heard,
                };
                self.ended(connection, peer, attempted, &ending, outcomes);
            }
            Fact::Found {
                connection,
                peer,
                attempted,
                phase,
            } => {
                let found = OpenConnection {
                    connection,
                    peer,
                    attempted,
                    phase,
                };
                self.found(at, &found, outcomes);
            }
            Fact::Sampled { connection, sample } => {
                self.sampled(at, connection, sample.as_ref(), outcomes);
            }
            Fact::Resynchronised { open, missed } => {
                self.resynchronise(at, &open, missed, outcomes);
            }
            Fact::Hop {
                connection,
                peer,
                event,
            } => self.hops.told(at, connection, peer, event),
            Fact::LookedUp => self.lookups.looked_up(at, self.last_activity),
            Fact::PeerAddresses(addresses) => {
                self.peer_addresses(at, addresses, outcomes);
                // An end that was in doubt may have settled long ago.
                self.run_until(at, outcomes);
            }
            Fact::ProcessEnded => {
                self.decide_doubts(at, outcomes);
                self.finish(at, outcomes);
            }
        }
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called next; `None` once ended.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.next_timer().map(|(due, _)| due)
    }

    /// Does what is due by `now`. Early, it does nothing.
    pub fn on_deadline(&mut self, now: Timestamp, outcomes: &mut Vec<Outcome>) {
        self.run_until(now, outcomes);
    }

    /// What the link is.
    pub fn status(&self) -> Status {
        match self.reach {
            Reach::Starting { .. } => Status::Starting,
            Reach::Reachable { since } => Status::Reachable { since },
            Reach::Unreachable { since, .. } => Status::Unreachable {
                since,
                cause: self.cause(),
            },
            Reach::Ended => Status::Ended,
        }
    }

    /// What it has counted since its discovery.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Where the live connection goes, or else the last attempt.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.newest_live()
            .map(|connection| connection.peer)
            .or(self.last_peer)
    }

    /// The live connection, the newest if there are several, and its smoothed round-trip time.
    pub fn live(&self) -> Option<(ConnectionId, Option<Duration>)> {
        self.newest_live()
            .map(|connection| (connection.id, connection.rtt()))
    }

    /// When the peer was last heard, on a connection that exists.
    pub fn heard(&self) -> Option<Timestamp> {
        self.connections
            .values()
            .filter_map(Connection::heard)
            .max()
    }

    /// The connections that exist, as far as is known.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.connections
            .values()
            .filter(|connection| connection.closed().is_none())
            .map(|connection| connection.id)
    }

    fn newest_live(&self) -> Option<&Connection> {
        self.connections
            .values()
            .filter(|connection| connection.is_open_and_live())
            .max_by_key(|connection| connection.id.born)
    }
}

/// How long after its discovery an activator may be without a live connection.
const START_UP_GRACE: Duration = Duration::from_secs(5);
