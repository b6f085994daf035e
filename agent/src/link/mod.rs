//! The state machine of one link: facts and time in, outcomes out.
//!
//! It reads no clock, does no I/O, logs nothing and draws no random number; its
//! [driver](Link#who-calls-what) does. The same facts at the same times give the same result.
//!
//! [`Link`] holds the contract and the rules that concern the link as a whole. What can be said
//! of one connection by itself is in `connection`, what an end means in `end`, whether it goes to
//! the right address in `standing`, what a proxy's connections explain in `hops`, what lookups of
//! names tell in `lookups`, what is remembered for an outage's story in `trouble`, and how a link
//! is brought up to date after records were lost in `resync`.
//!
//! A process that dials several addresses has a [`Fanout`]: a link to each, which is a `target`.
//! [`Machine`] is what both have in common.

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
mod resync;
mod standing;
mod target;
mod tombstones;
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

use statlink_ebpf::{End, Phase};

pub use cause::Cause;
pub use check::{CheckKind, Counts};
pub use fact::{ConnectionId, Fact, HopEvent, Missed, OpenConnection, Sample};
pub use fanout::Fanout;
pub use machine::{Machine, Shape};
pub use outcome::{FailedAttempt, Outage, Outcome, Status};
pub use trouble::ATTEMPTS_TOLD;

use crate::time::Timestamp;
use connection::{Connection, Due, Ending, FIRST_LOOK, Step, Verdict};
use hops::Hops;
use lookups::Lookups;
use target::Target;
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

/// Where the link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
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

/// A cause, and the hop whose failure it was, if it was one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Why {
    cause: Cause,
    hop: Option<SocketAddr>,
}

impl From<Cause> for Why {
    fn from(cause: Cause) -> Self {
        Self { cause, hop: None }
    }
}

/// What falls due on a link. At the same moment: verdicts on connections, then what follows for
/// the link, and last the check of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Connection(Due, ConnectionId),
    Dns,
    GivenUp,
    Grace,
    NoAttempt,
    Liveness,
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
                if self.is_news(connection) {
                    self.attempted(connection, peer, Some(at), at, outcomes);
                }
            }
            Fact::Established {
                connection,
                peer,
                attempted,
            } => {
                let looked_at = at + FIRST_LOOK;
                if let Some(known) = self.connections.get_mut(&connection) {
                    known.establish(at, at, looked_at, attempted);
                } else if self.is_news(connection) {
                    // The record tells that it is fresh, even where its attempt was not seen.
                    let mut fresh = Connection::connecting(connection, peer, attempted);
                    fresh.establish(at, at, looked_at, attempted);
                    self.track(fresh, attempted.unwrap_or(at), at, outcomes);
                }
            }
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
                let known = self.connections.remove(&connection);
                let ended = match known {
                    Some(known) if known.closed().is_some() => {
                        self.connections.insert(connection, known);
                        return;
                    }
                    Some(known) => known,
                    None if self.tombstones.covers(connection) => return,
                    None => {
                        let mut unseen = from_its_end(connection, peer, attempted, &ending);
                        unseen.stand(self.standing(&unseen, at));
                        unseen
                    }
                };
                self.last_peer = Some(ended.peer);
                self.end(ended, &ending, outcomes);
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

    /// What ended the last live connection or the last attempt, whichever is newer.
    fn cause(&self) -> Cause {
        self.why().cause
    }

    fn why(&self) -> Why {
        self.last_cause.map_or(Cause::Other.into(), |(_, why)| why)
    }

    /// The cause of a connection's failure at `at`, or the hop's failure behind it.
    fn explained(&self, connection: &Connection, at: Timestamp, own: Cause) -> Why {
        let (began, heard) = (connection.began(), connection.heard());
        match self.hops.explain(at, own, began, heard) {
            Some((peer, cause)) => Why {
                cause,
                hop: Some(peer),
            },
            None => own.into(),
        }
    }

    /// Whether a record about `connection` begins something.
    fn is_news(&self, connection: ConnectionId) -> bool {
        !self.connections.contains_key(&connection) && !self.tombstones.covers(connection)
    }
}

/// What falls due.
impl Link {
    fn run_until(&mut self, now: Timestamp, outcomes: &mut Vec<Outcome>) {
        // Each round either ends a connection or a state, or moves a timer beyond `now`.
        while let Some((due, timer)) = self.next_timer()
            && due <= now
            && due < END_OF_TIME
        {
            self.fire(due, timer, now, outcomes);
        }
        self.now = self.now.max(now);
    }

    fn next_timer(&self) -> Option<(Timestamp, Timer)> {
        let of_the_link = match self.reach {
            Reach::Ended => return None,
            Reach::Starting { grace_ends } => Some((grace_ends, Timer::Grace)),
            Reach::Reachable { .. } => None,
            Reach::Unreachable { .. } => self.no_attempt_due().map(|due| (due, Timer::NoAttempt)),
        };
        let of_lookups = self.dns_due().map(|due| (due, Timer::Dns));
        let of_connections = self.connections.values().filter_map(|connection| {
            let (at, due) = connection.due()?;
            Some((at, Timer::Connection(due, connection.id)))
        });
        let of_a_target = self.given_up_due().map(|due| (due, Timer::GivenUp));
        of_connections
            .chain(of_the_link)
            .chain(of_lookups)
            .chain(of_a_target)
            .chain([(self.next_liveness, Timer::Liveness)])
            .min()
    }

    fn fire(&mut self, due: Timestamp, timer: Timer, now: Timestamp, outcomes: &mut Vec<Outcome>) {
        match timer {
            Timer::Connection(Due::Sample, id) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.asked(now);
                    outcomes.push(Outcome::Sample(id));
                }
            }
            Timer::Connection(Due::Settle, id) => {
                if let Some(connection) = self.connections.remove(&id) {
                    self.settle(connection, outcomes);
                }
            }
            Timer::Connection(Due::Condemn, id) => {
                if let Some(connection) = self.connections.remove(&id) {
                    self.condemn(connection, due, outcomes);
                }
            }
            Timer::Connection(Due::Gone, id) => {
                if let Some(connection) = self.connections.remove(&id) {
                    self.end_unseen(connection, due, outcomes);
                }
            }
            Timer::GivenUp => self.finish(due, outcomes),
            Timer::Grace => self.begin_outage(due, self.why(), self.last_peer, outcomes),
            Timer::Dns => {
                self.lookups.judged();
                self.blame(due, Cause::Dns.into(), outcomes);
            }
            Timer::NoAttempt => {
                self.lookups.judged();
                self.blame(due, Cause::NoAttempt.into(), outcomes);
            }
            Timer::Liveness => {
                match self.reach {
                    Reach::Reachable { .. } => self.counts.pass(CheckKind::Liveness, 1),
                    Reach::Unreachable { .. } | Reach::Starting { .. } => {
                        let cause = self.cause();
                        self.counts.fail(CheckKind::Liveness, cause, 1);
                    }
                    Reach::Ended => {}
                }
                self.next_liveness = next_on_grid(due, LIVENESS, now);
            }
        }
    }

    /// When the lack of attempts is the cause: there is no connection and no attempt, and it is
    /// not blamed for it yet.
    fn no_attempt_due(&self) -> Option<Timestamp> {
        if !self.connections.is_empty() || self.target.is_some() {
            return None;
        }
        if self.cause() == Cause::Dns {
            return Some(self.lookups.stopped_due(self.last_activity));
        }
        (self.cause() != Cause::NoAttempt).then(|| self.last_activity + NO_ATTEMPT)
    }

    /// When the name lookups that no attempt follows are the cause.
    fn dns_due(&self) -> Option<Timestamp> {
        let matters = match self.reach {
            Reach::Starting { .. } | Reach::Unreachable { .. } => self.connections.is_empty(),
            Reach::Reachable { .. } | Reach::Ended => false,
        };
        if !matters || self.cause() == Cause::Dns {
            return None;
        }
        self.lookups.due(self.last_activity)
    }
}

/// What happens to connections.
impl Link {
    fn attempted(
        &mut self,
        id: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        at: Timestamp,
        outcomes: &mut Vec<Outcome>,
    ) {
        let connection = Connection::connecting(id, peer, attempted);
        self.track(connection, attempted.unwrap_or(at), at, outcomes);
    }

    fn found(&mut self, at: Timestamp, found: &OpenConnection, outcomes: &mut Vec<Outcome>) {
        let OpenConnection {
            connection: id,
            peer,
            attempted,
            phase,
        } = *found;
        // When it was established is not known; no earlier than its attempt, and when it was
        // found is a moment to look at it.
        let since = attempted.map_or(at, |attempted| attempted.min(at));
        if let Some(known) = self.connections.get_mut(&id) {
            match phase {
                Phase::Connecting => {}
                Phase::Established | Phase::Held => known.establish(since, at, at, attempted),
            }
            return;
        }
        // It is there, so its birth does not matter: only its own tombstone tells otherwise.
        if self.tombstones.holds(id) {
            return;
        }
        match phase {
            Phase::Connecting => self.attempted(id, peer, attempted, at, outcomes),
            Phase::Established | Phase::Held => {
                let connection = if attempted.is_some() {
                    let mut connection = Connection::connecting(id, peer, attempted);
                    connection.establish(since, at, at, attempted);
                    connection
                } else {
                    Connection::older(id, peer, at)
                };
                self.track(connection, since, at, outcomes);
            }
        }
    }

    fn track(
        &mut self,
        mut connection: Connection,
        attempted: Timestamp,
        at: Timestamp,
        outcomes: &mut Vec<Outcome>,
    ) {
        if self.connections.len() >= TRACKED {
            let oldest = self
                .connections
                .values()
                .min_by_key(|tracked| (tracked.live_span().is_some(), tracked.id.born))
                .map(|tracked| tracked.id);
            if let Some(oldest) = oldest.and_then(|id| self.connections.remove(&id)) {
                self.end_unseen(oldest, at, outcomes);
            }
        }
        self.last_activity = self.last_activity.max(attempted);
        self.last_peer = Some(connection.peer);
        connection.stand(self.standing(&connection, at));
        self.connections.insert(connection.id, connection);
    }

    fn sampled(
        &mut self,
        at: Timestamp,
        id: ConnectionId,
        sample: Option<&Sample>,
        outcomes: &mut Vec<Outcome>,
    ) {
        // Out of the map, so that what is in it are the others.
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        match sample.filter(|sample| sample.established) {
            None => connection.missing(at, sample.is_none()),
            Some(sample) => {
                // At most: the handshake took too long, it was upgraded after all, and stalls.
                for _ in 0..3 {
                    let Some(step) = connection.look(at, sample) else {
                        break;
                    };
                    self.step(&connection, step, at, outcomes);
                }
            }
        }
        self.connections.insert(id, connection);
    }

    fn step(
        &mut self,
        connection: &Connection,
        step: Step,
        at: Timestamp,
        outcomes: &mut Vec<Outcome>,
    ) {
        match step {
            Step::HandshakeFailed { at } => {
                let cause = if connection.is_wrong() {
                    Cause::WrongPeer
                } else {
                    Cause::HandshakeFailed
                };
                self.attempt_failed(connection, at, cause, None, outcomes);
            }
            Step::Misled { answered } => {
                self.attempt_failed(connection, answered, Cause::WrongPeer, None, outcomes);
            }
            Step::Upgraded { answered } => self.upgraded(connection, answered, at, outcomes),
            Step::Stalled { onset } => {
                let why = self.explained(connection, onset, Cause::Stalled);
                self.lost(connection.peer, onset, why, outcomes);
            }
            Step::Healed { at } => self.begin_reachable(Some(at), at, connection.peer, outcomes),
        }
    }

    fn retransmission_timeout(
        &mut self,
        at: Timestamp,
        id: ConnectionId,
        timeouts: u8,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        if let Some(onset) = connection.retransmission_timeout(at, timeouts) {
            let why = self.explained(&connection, onset, Cause::Stalled);
            self.lost(connection.peer, onset, why, outcomes);
        }
        self.connections.insert(id, connection);
    }

    /// A connection ended, as the kernel half tells it.
    fn end(&mut self, mut connection: Connection, ending: &Ending, outcomes: &mut Vec<Outcome>) {
        if connection.hold(ending) {
            self.last_activity = self.last_activity.max(ending.at);
            self.connections.insert(connection.id, connection);
            return;
        }
        if let Some(answered) = connection.upgraded_before(ending) {
            self.upgraded(&connection, answered, ending.at, outcomes);
        }
        let answers = ending.answers_a_close();
        let mut verdict = connection.verdict(ending.how, ending.errno);
        if answers {
            verdict = verdict.by_the_peer();
        }
        if end::is_local(ending.how) && verdict != Verdict::Nothing {
            self.last_activity = self.last_activity.max(ending.at);
            let settle = if answers { SETTLE_ANSWER } else { SETTLE };
            connection.close(ending.at, verdict, settle);
            self.connections.insert(connection.id, connection);
        } else {
            self.decide(&connection, ending.at, verdict, outcomes);
        }
    }

    /// A close has settled: the process lives on.
    fn settle(&mut self, connection: Connection, outcomes: &mut Vec<Outcome>) {
        if let Some(closed) = connection.closed() {
            let verdict = connection.verdict(End::Other, 0);
            if self.is_withdrawn(closed, verdict) {
                self.withdraw(&connection, closed, outcomes);
            } else {
                self.decide(&connection, closed, verdict, outcomes);
            }
        }
    }

    /// A connection is gone, and nobody told how.
    fn end_unseen(&mut self, connection: Connection, at: Timestamp, outcomes: &mut Vec<Outcome>) {
        let at = connection.closed().or(connection.vanished()).unwrap_or(at);
        let (how, errno) = connection
            .held()
            .map_or((End::Other, 0), |ending| (ending.how, ending.errno));
        let verdict = connection.verdict(how, errno);
        self.decide(&connection, at, verdict, outcomes);
    }

    /// `connection`, which is not in the map any more, has ended, and this is what it comes to.
    fn decide(
        &mut self,
        connection: &Connection,
        at: Timestamp,
        verdict: Verdict,
        outcomes: &mut Vec<Outcome>,
    ) {
        self.tombstones.bury(connection.id);
        self.last_activity = self.last_activity.max(at);
        match verdict {
            Verdict::Nothing => {}
            Verdict::Failed { cause, errno } => {
                self.attempt_failed(connection, at, cause, errno, outcomes);
            }
            Verdict::Lost { cause } => {
                let onset = match connection.live_span() {
                    Some((Some(since), _)) => at.max(since),
                    Some((None, _)) | None => at,
                };
                let why = self.explained(connection, onset, cause);
                self.lost(connection.peer, onset, why, outcomes);
            }
        }
    }

    fn attempt_failed(
        &mut self,
        connection: &Connection,
        at: Timestamp,
        cause: Cause,
        errno: Option<u16>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let why = self.explained(connection, at, cause);
        let failed = FailedAttempt {
            at,
            peer: Some(connection.peer),
            cause: why.cause,
            hop: why.hop,
            errno,
            duration: connection.duration(at),
        };
        // An attempt from before the agent explains, but is not the agent's to count.
        if connection.counts_connect() {
            self.counts.fail(CheckKind::Connect, why.cause, 1);
            outcomes.push(Outcome::ConnectFailed(failed));
        }
        self.trouble.remember(failed);
        self.lookups.failed(1);
        self.blame(at, why, outcomes);
    }

    /// `connection` is live, since the peer's answer at `answered`; known at `at`.
    fn upgraded(
        &mut self,
        connection: &Connection,
        answered: Timestamp,
        at: Timestamp,
        outcomes: &mut Vec<Outcome>,
    ) {
        if connection.counts_connect() {
            let decided = connection.has_failed();
            if !decided {
                self.counts.pass(CheckKind::Connect, 1);
            }
            self.counts.connect(1);
            outcomes.push(Outcome::Connected {
                at: answered,
                peer: connection.peer,
                duration: connection.duration(answered).filter(|_| !decided),
            });
        }
        match connection.live_span() {
            Some((Some(since), _)) => {
                self.begin_reachable(Some(since), since, connection.peer, outcomes);
            }
            // Older than the agent. If that is news in an outage, its last data ends it.
            Some((None, _)) => {
                let heard = connection.heard().unwrap_or(at);
                self.begin_reachable(None, heard, connection.peer, outcomes);
            }
            None => {}
        }
    }

    /// A live connection, which is not in the map or not live there any more, was lost.
    fn lost(&mut self, peer: SocketAddr, at: Timestamp, why: Why, outcomes: &mut Vec<Outcome>) {
        let Why { cause, hop } = why;
        if matches!(self.reach, Reach::Reachable { .. }) {
            self.trouble.begins(self.counts.total_errors());
        }
        self.counts.fail(CheckKind::Disconnect, cause, 1);
        self.last_activity = self.last_activity.max(at);
        outcomes.push(Outcome::Disconnected {
            at,
            peer,
            cause,
            hop,
        });
        self.blame(at, why, outcomes);
        // Another one may have been live already, or since.
        let next = self
            .connections
            .values()
            .filter_map(|other| Some((other.live_span()?, other.peer)))
            .filter(|((_, until), _)| until.is_none_or(|until| until > at))
            .map(|((since, _), peer)| (since, peer))
            .min();
        match next {
            None => self.begin_outage(at, why, Some(peer), outcomes),
            Some((Some(since), other)) if since > at => {
                self.begin_outage(at, why, Some(peer), outcomes);
                self.begin_reachable(Some(since), since, other, outcomes);
            }
            Some(_) => {}
        }
    }
}

/// What follows for the link.
impl Link {
    fn begin_outage(
        &mut self,
        at: Timestamp,
        why: Why,
        peer: Option<SocketAddr>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let Why { cause, hop } = why;
        match self.reach {
            Reach::Starting { .. } | Reach::Reachable { .. } => {
                self.reach = Reach::Unreachable {
                    since: at,
                    onset: cause,
                };
                outcomes.push(Outcome::Unreachable {
                    at,
                    cause,
                    peer,
                    hop,
                    attempts: self.trouble.attempts(),
                });
            }
            Reach::Unreachable { .. } | Reach::Ended => {}
        }
    }

    /// There is a live connection `since`; if that is longer than known, since `at`.
    fn begin_reachable(
        &mut self,
        since: Option<Timestamp>,
        at: Timestamp,
        peer: SocketAddr,
        outcomes: &mut Vec<Outcome>,
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
        outcomes.push(Outcome::Reachable { at, peer, outage });
    }

    /// Nothing follows.
    fn finish(&mut self, at: Timestamp, outcomes: &mut Vec<Outcome>) {
        self.reach = Reach::Ended;
        self.connections.clear();
        outcomes.push(Outcome::Ended { at });
    }

    /// Something at `at` tells why the link is, or would be, unreachable.
    fn blame(&mut self, at: Timestamp, why: Why, outcomes: &mut Vec<Outcome>) {
        let Why { cause, hop } = why;
        if self.last_cause.is_some_and(|(newest, _)| newest > at) {
            return;
        }
        self.last_cause = Some((at, why));
        match &mut self.reach {
            Reach::Unreachable { onset, .. } if *onset == Cause::Other && cause != *onset => {
                *onset = cause;
                outcomes.push(Outcome::Unreachable {
                    at,
                    cause,
                    peer: self.last_peer,
                    hop,
                    attempts: self.trouble.attempts(),
                });
            }
            Reach::Unreachable { .. }
            | Reach::Starting { .. }
            | Reach::Reachable { .. }
            | Reach::Ended => {}
        }
    }
}

/// What an end tells about a connection that was not known.
fn from_its_end(
    id: ConnectionId,
    peer: SocketAddr,
    attempted: Option<Timestamp>,
    ending: &Ending,
) -> Connection {
    match (ending.phase, attempted) {
        (Phase::Connecting, _) | (Phase::Established | Phase::Held, Some(_)) => {
            Connection::connecting(id, peer, attempted)
        }
        (Phase::Established | Phase::Held, None) => Connection::older(id, peer, ending.at),
    }
}

/// The first moment after `now` on the grid that `due` is on.
fn next_on_grid(due: Timestamp, step: Duration, now: Timestamp) -> Timestamp {
    let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX).max(1);
    let passed = now.as_nanos().saturating_sub(due.as_nanos()) / step;
    let ahead = step.saturating_mul(passed.saturating_add(1));
    Timestamp::from_nanos(due.as_nanos().saturating_add(ahead))
}

/// How long after its discovery an activator may be without a live connection.
const START_UP_GRACE: Duration = Duration::from_secs(5);
/// Between two liveness checks.
const LIVENESS: Duration = Duration::from_secs(5);
/// Without an attempt for this long, the lack of one is the cause: the longest gap between two
/// dials of Knative's websocket client is about 20 s.
const NO_ATTEMPT: Duration = Duration::from_secs(20);
/// How long the peer may take for its first data: the client's own handshake timeout. Decided by
/// the first look after it, for only a look tells that nothing came.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// Without a word from the peer for this long, though spoken to, a connection is stalled.
const SILENCE: Duration = Duration::from_secs(5);
/// How long after a close by this side the process may turn out to have been ending.
const SETTLE: Duration = Duration::from_millis(300);
/// The same for a close that answers the peer's: a process whose last act this was has ended by
/// then.
const SETTLE_ANSWER: Duration = Duration::from_millis(40);
/// How long the record of an end may be late, once looks find the connection gone.
const VANISHED: Duration = Duration::from_secs(1);
/// How many connections are tracked at a time.
const TRACKED: usize = 1024;
/// Reached by saturation only: nothing falls due here.
const END_OF_TIME: Timestamp = Timestamp::from_nanos(u64::MAX);
