//! What befalls the connections of a link: how each begins, what looks tell of it, how it ends, and
//! what that counts.

use std::{net::SocketAddr, time::Duration};

use statlink_ebpf::{End, Phase};

use super::{
    Cause, CheckKind, ConnectionId, FailedAttempt, Link, OpenConnection, Outcome, Sample,
    connection::{Connection, Ending, FIRST_LOOK, Step, Verdict},
    end,
    reachability::{Reach, Why},
};
use crate::time::Timestamp;

impl Link {
    /// Whether a record about `connection` begins something.
    fn is_news(&self, connection: ConnectionId) -> bool {
        !self.connections.contains_key(&connection) && !self.tombstones.covers(connection)
    }

    /// connect() was called at `at`.
    pub(super) fn attempted(
        &mut self,
        at: Timestamp,
        id: ConnectionId,
        peer: SocketAddr,
        outcomes: &mut Vec<Outcome>,
    ) {
        if self.is_news(id) {
            let connection = Connection::connecting(id, peer, Some(at));
            self.track(connection, at, at, outcomes);
        }
    }

    /// The TCP handshake was complete at `at`.
    pub(super) fn established(
        &mut self,
        at: Timestamp,
        id: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let looked_at = at + FIRST_LOOK;
        if let Some(known) = self.connections.get_mut(&id) {
            known.establish(at, at, looked_at, attempted);
        } else if self.is_news(id) {
            // The record tells that it is fresh, even where its attempt was not seen.
            let mut fresh = Connection::connecting(id, peer, attempted);
            fresh.establish(at, at, looked_at, attempted);
            self.track(fresh, attempted.unwrap_or(at), at, outcomes);
        }
    }

    /// It was there when everything was listed.
    pub(super) fn found(
        &mut self,
        at: Timestamp,
        found: &OpenConnection,
        outcomes: &mut Vec<Outcome>,
    ) {
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
            Phase::Connecting => {
                let connection = Connection::connecting(id, peer, attempted);
                self.track(connection, attempted.unwrap_or(at), at, outcomes);
            }
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

    /// A look at it told this.
    pub(super) fn sampled(
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
        match sample {
            None => connection.missing(at),
            Some(sample) if !sample.established => connection.not_established(at),
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

    /// What was sent on it went unacknowledged.
    pub(super) fn retransmission_timeout(
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

    /// An attempt failed or a connection ended.
    pub(super) fn ended(
        &mut self,
        id: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        ending: &Ending,
        outcomes: &mut Vec<Outcome>,
    ) {
        let known = self.connections.get(&id);
        if known.is_some_and(|known| known.closed().is_some()) {
            return;
        }
        let ended = match self.connections.remove(&id) {
            Some(known) => known,
            None if self.tombstones.covers(id) => return,
            None => {
                let mut unseen = from_its_end(id, peer, attempted, ending);
                unseen.stand(self.standing(&unseen, ending.at));
                unseen
            }
        };
        self.last_peer = Some(ended.peer);
        self.end(ended, ending, outcomes);
    }

    /// `connection`, which is not in the map any more, ended, as the kernel half tells it.
    pub(super) fn end(
        &mut self,
        mut connection: Connection,
        ending: &Ending,
        outcomes: &mut Vec<Outcome>,
    ) {
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
    pub(super) fn settle(&mut self, connection: Connection, outcomes: &mut Vec<Outcome>) {
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
    pub(super) fn end_unseen(
        &mut self,
        connection: Connection,
        at: Timestamp,
        outcomes: &mut Vec<Outcome>,
    ) {
        let at = connection.closed().or(connection.vanished()).unwrap_or(at);
        let (how, errno) = connection
            .held()
            .map_or((End::Other, 0), |ending| (ending.how, ending.errno));
        let verdict = connection.verdict(how, errno);
        self.decide(&connection, at, verdict, outcomes);
    }

    /// `connection`, which is not in the map any more, has ended, and this is what it comes to.
    pub(super) fn decide(
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
    pub(super) fn lost(
        &mut self,
        peer: SocketAddr,
        at: Timestamp,
        why: Why,
        outcomes: &mut Vec<Outcome>,
    ) {
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

/// How long after a close by this side the process may turn out to have been ending.
pub(super) const SETTLE: Duration = Duration::from_millis(300);
/// The same for a close that answers the peer's: a process whose last act this was has ended by
/// then.
pub(super) const SETTLE_ANSWER: Duration = Duration::from_millis(40);
/// How many connections are tracked at a time.
const TRACKED: usize = 1024;
