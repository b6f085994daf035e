//! The state machine of one link: inputs and time in, outputs out.
//!
//! It reads no clock, does no I/O, logs nothing and draws no random number; its
//! [driver](Link#who-calls-what) does. The same inputs at the same times give the same result.
//!
//! [`Link`] holds the contract. What falls due on it is in `timers`, what befalls its connections
//! in `tracking`, and when it is reachable, and why not, in `reachability`. What can be said of one
//! connection by itself is in `connection`, what an end means in `end`, whether it goes to the
//! right address in `standing`, what a proxy's connections explain in `proxies`, what lookups of names
//! tell in `lookups`, what is remembered for an outage's story in `trouble`, and how a link is
//! brought up to date after records were lost in `resync`.
//!
//! A process that dials several addresses has a [`Fanout`]: a link to each, which is a `target`.
//! [`LinkMachine`] is what both have in common.

pub mod time;

mod cause;
mod check;
mod connection;
mod end;
mod event;
mod fanout;
mod input;
mod lookups;
mod machine;
mod output;
mod proxies;
mod reachability;
mod resync;
mod standing;
mod state;
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
pub use event::{EndedOutage, Event, EventKind, FailedAttempt};
pub use fanout::Fanout;
pub use input::{ConnectionId, Input, MissedEnds, OpenConnection, ProxyEvent, Sample};
pub use machine::{LinkMachine, Shape};
pub use output::Output;
pub use state::State;
pub use trouble::ATTEMPTS_REPORTED;

use crate::time::Timestamp;
use connection::{Connection, Ending};
use lookups::Lookups;
use proxies::Proxies;
use reachability::{Reach, Why};
use target::Target;
use timers::LIVENESS;
use tombstones::Tombstones;
use trouble::Trouble;

/// One activator and one peer: whether they are connected, since when, and why not.
///
/// # Who calls what
///
/// - [`handle`](Self::handle) with each input and its time: the kernel's time of the event for
///   what the kernel half recorded, the clock for the rest.
/// - [`on_deadline`](Self::on_deadline) with the clock, once it has reached
///   [`next_deadline`](Self::next_deadline). Early, it does nothing. Inputs that are waiting are
///   handed in first.
/// - After each of both, the outputs are performed in their order. A
///   [`Output::Sample`] is answered by [`Input::Sampled`] as soon as possible; unanswered, it is
///   asked again.
/// - The getters at any time. They tell the state as of the last call above.
///
/// # Time
///
/// Before it acts on an input, the link does whatever was due up to the input's time. So when
/// exactly the driver woke up makes no difference, with two deliberate exceptions. A driver that
/// slept through several liveness checks gets one, and the next is back on the 5 s grid: what
/// nobody watched is not an observation. And [`Input::ProcessEnded`] comes before anything that
/// is due: a driver that was late learns of a killed process's closes and of its end at once.
///
/// An input may be older than the one before. Time then stands still for what falls due, but what
/// the input tells is dated by its own time. No length is ever negative.
///
/// # Duplicates, disorder and loss
///
/// A connection is named by its [`ConnectionId`]; each attempt and each loss of it is counted
/// once, whatever comes twice, late, or in another order. What is unknown at its end is counted
/// by what the end tells. Inputs about a connection that is over are ignored; the last 256 of
/// those are remembered one by one, older ones by their birth. After lost records,
/// [`Input::Resynchronised`] sets the counts right.
///
/// # Proxies
///
/// A proxy in the pod takes the activator's connection and makes one of its own ([`Input::Proxy`]).
/// Such a connection never makes the link reachable. But where a handshake fails, or a live
/// connection stalls or is ended by its other side, and a proxy's connection failed within the
/// second before (of a handshake: since it began; of a stall: since the peer was last heard), but
/// not before that connection began, that failure's cause is the cause; and [`Cause::Timeout`] is
/// where the SYN of a proxy that dialled since that connection began has gone unanswered for 1 s. A
/// proxy that closes its own connection explains nothing.
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
    proxies: Proxies,
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
            proxies: Proxies::default(),
            trouble: Trouble::default(),
            lookups: Lookups::default(),
            target: None,
        }
    }

    /// Takes in one input, that became true at `at`.
    pub fn handle(&mut self, at: Timestamp, input: Input, outputs: &mut Vec<Output>) {
        if self.reach == Reach::Ended {
            return;
        }
        if input != Input::ProcessEnded {
            self.run_until(at, outputs);
        }
        self.now = self.now.max(at);
        match input {
            Input::Attempted {
                connection,
                peer_address: peer,
            } => {
                self.attempted(at, connection, peer, outputs);
            }
            Input::Established {
                connection,
                peer_address: peer,
                attempted,
            } => self.established(at, connection, peer, attempted, outputs),
            Input::RetransmissionTimeout {
                connection,
                timeouts,
            } => self.retransmission_timeout(at, connection, timeouts, outputs),
            Input::Ended {
                connection,
                peer_address: peer,
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
                self.ended(connection, peer, attempted, &ending, outputs);
            }
            Input::Sampled { connection, sample } => {
                self.sampled(at, connection, sample.as_ref(), outputs);
            }
            Input::Resynchronised { open, missed } => {
                self.resynchronise(at, &open, missed, outputs);
            }
            Input::Proxy {
                connection,
                peer_address: peer,
                event,
            } => self.proxies.told(at, connection, peer, event),
            Input::LookedUp => self.lookups.looked_up(at, self.last_activity),
            Input::PeerAddresses(addresses) => {
                self.peer_addresses(at, addresses, outputs);
                // An end that was in doubt may have settled long ago.
                self.run_until(at, outputs);
            }
            Input::ProcessEnded => {
                self.decide_doubts(at, outputs);
                self.finish(at, outputs);
            }
        }
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called next; `None` once ended.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.next_timer().map(|(due, _)| due)
    }

    /// Does what is due by `now`. Early, it does nothing.
    pub fn on_deadline(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        self.run_until(now, outputs);
    }

    /// What the link is.
    pub fn state(&self) -> State {
        match self.reach {
            Reach::Starting { .. } => State::Starting,
            Reach::Reachable { since } => State::Reachable { since },
            Reach::Unreachable { since, .. } => State::Unreachable {
                since,
                cause: self.cause(),
            },
            Reach::Ended => State::Ended,
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
