//! What befalls the connections of a link: how each begins, what looks tell of it, how it ends, and
//! what that counts.

use std::{net::SocketAddr, time::Duration};

use statlink_ebpf::{End, Phase};

use super::{
    Cause, CheckKind, ConnectionId, EventKind, FailedAttempt, Link, OpenConnection, Output, Sample,
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
        outputs: &mut Vec<Output>,
    ) {
        if self.is_news(id) {
            let connection = Connection::connecting(id, peer, Some(at));
            self.track(connection, at, at, outputs);
        }
    }

    /// The TCP handshake was complete at `at`.
    pub(super) fn established(
        &mut self,
        at: Timestamp,
        id: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        outputs: &mut Vec<Output>,
    ) {
        let looked_at = at + FIRST_LOOK;
        if let Some(known) = self.connections.get_mut(&id) {
            known.establish(at, at, looked_at, attempted);
        } else if self.is_news(id) {
            // The record tells that it is fresh, even where its attempt was not seen.
            let mut fresh = Connection::connecting(id, peer, attempted);
            fresh.establish(at, at, looked_at, attempted);
            self.track(fresh, attempted.unwrap_or(at), at, outputs);
        }
    }

    /// It was there when everything was listed.
    pub(super) fn found(
        &mut self,
        at: Timestamp,
        found: &OpenConnection,
        outputs: &mut Vec<Output>,
    ) {
        let OpenConnection {
            connection: id,
            peer_address: peer,
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
                self.track(connection, attempted.unwrap_or(at), at, outputs);
            }
            Phase::Established | Phase::Held => {
                let connection = if attempted.is_some() {
                    let mut connection = Connection::connecting(id, peer, attempted);
                    connection.establish(since, at, at, attempted);
                    connection
                } else {
                    Connection::older(id, peer, at)
                };
                self.track(connection, since, at, outputs);
            }
        }
    }

    fn track(
        &mut self,
        mut connection: Connection,
        attempted: Timestamp,
        at: Timestamp,
        outputs: &mut Vec<Output>,
    ) {
        if self.connections.len() >= TRACKED {
            let oldest = self
                .connections
                .values()
                .min_by_key(|tracked| (tracked.live_span().is_some(), tracked.id.born))
                .map(|tracked| tracked.id);
            if let Some(oldest) = oldest.and_then(|id| self.connections.remove(&id)) {
                self.end_unseen(oldest, at, outputs);
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
        outputs: &mut Vec<Output>,
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
                    self.step(&connection, step, at, outputs);
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
        outputs: &mut Vec<Output>,
    ) {
        match step {
            Step::HandshakeFailed { at } => {
                let cause = if connection.is_wrong() {
                    Cause::WrongPeer
                } else {
                    Cause::HandshakeFailed
                };
                self.attempt_failed(connection, at, cause, None, outputs);
            }
            Step::Misled { answered } => {
                self.attempt_failed(connection, answered, Cause::WrongPeer, None, outputs);
            }
            Step::Upgraded { answered } => self.upgraded(connection, answered, at, outputs),
            Step::Stalled { onset } => {
                let why = self.explained(connection, onset, Cause::Stalled);
                self.lost(connection.peer, onset, why, outputs);
            }
            Step::Healed { at } => self.begin_reachable(Some(at), at, connection.peer, outputs),
        }
    }

    /// What was sent on it went unacknowledged.
    pub(super) fn retransmission_timeout(
        &mut self,
        at: Timestamp,
        id: ConnectionId,
        timeouts: u8,
        outputs: &mut Vec<Output>,
    ) {
        let Some(mut connection) = self.connections.remove(&id) else {
            return;
        };
        if let Some(onset) = connection.retransmission_timeout(at, timeouts) {
            let why = self.explained(&connection, onset, Cause::Stalled);
            self.lost(connection.peer, onset, why, outputs);
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
        outputs: &mut Vec<Output>,
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
        self.end(ended, ending, outputs);
    }

    /// `connection`, which is not in the map any more, ended, as the kernel half tells it.
    pub(super) fn end(
        &mut self,
        mut connection: Connection,
        ending: &Ending,
        outputs: &mut Vec<Output>,
    ) {
        if connection.hold(ending) {
            self.last_activity = self.last_activity.max(ending.at);
            self.connections.insert(connection.id, connection);
            return;
        }
        if let Some(answered) = connection.upgraded_before(ending) {
            self.upgraded(&connection, answered, ending.at, outputs);
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
            self.decide(&connection, ending.at, verdict, outputs);
        }
    }

    /// A close has settled: the process lives on.
    pub(super) fn settle(&mut self, connection: Connection, outputs: &mut Vec<Output>) {
        if let Some(closed) = connection.closed() {
            let verdict = connection.verdict(End::Other, 0);
            if self.is_withdrawn(closed, verdict) {
                self.withdraw(&connection, closed, outputs);
            } else {
                self.decide(&connection, closed, verdict, outputs);
            }
        }
    }

    /// A connection is gone, and nobody told how.
    pub(super) fn end_unseen(
        &mut self,
        connection: Connection,
        at: Timestamp,
        outputs: &mut Vec<Output>,
    ) {
        let at = connection.closed().or(connection.vanished()).unwrap_or(at);
        let (how, errno) = connection
            .held()
            .map_or((End::Other, 0), |ending| (ending.how, ending.errno));
        let verdict = connection.verdict(how, errno);
        self.decide(&connection, at, verdict, outputs);
    }

    /// `connection`, which is not in the map any more, has ended, and this is what it comes to.
    pub(super) fn decide(
        &mut self,
        connection: &Connection,
        at: Timestamp,
        verdict: Verdict,
        outputs: &mut Vec<Output>,
    ) {
        self.tombstones.bury(connection.id);
        self.last_activity = self.last_activity.max(at);
        match verdict {
            Verdict::Nothing => {}
            Verdict::Failed { cause, errno } => {
                self.attempt_failed(connection, at, cause, errno, outputs);
            }
            Verdict::Lost { cause } => {
                let onset = match connection.live_span() {
                    Some((Some(since), _)) => at.max(since),
                    Some((None, _)) | None => at,
                };
                let why = self.explained(connection, onset, cause);
                self.lost(connection.peer, onset, why, outputs);
            }
        }
    }

    fn attempt_failed(
        &mut self,
        connection: &Connection,
        at: Timestamp,
        cause: Cause,
        errno: Option<u16>,
        outputs: &mut Vec<Output>,
    ) {
        let why = self.explained(connection, at, cause);
        let failed = FailedAttempt {
            at,
            peer_address: Some(connection.peer),
            cause: why.cause,
            proxy_address: why.proxy,
            errno,
            duration: connection.duration(at),
        };
        // An attempt from before the agent explains, but is not the agent's to count.
        if connection.counts_connect() {
            self.counts.fail(CheckKind::Connect, why.cause, 1);
            outputs.push(Output::event(failed.at, EventKind::ConnectFailed(failed)));
        }
        self.trouble.remember(failed);
        self.lookups.failed(1);
        self.blame(at, why, outputs);
    }

    /// `connection` is live, since the peer's answer at `answered`; known at `at`.
    fn upgraded(
        &mut self,
        connection: &Connection,
        answered: Timestamp,
        at: Timestamp,
        outputs: &mut Vec<Output>,
    ) {
        if connection.counts_connect() {
            let decided = connection.has_failed();
            if !decided {
                self.counts.pass(CheckKind::Connect, 1);
            }
            self.counts.connect(1);
            outputs.push(Output::event(
                answered,
                EventKind::Connected {
                    peer_address: connection.peer,
                    duration: connection.duration(answered).filter(|_| !decided),
                },
            ));
        }
        match connection.live_span() {
            Some((Some(since), _)) => {
                self.begin_reachable(Some(since), since, connection.peer, outputs);
            }
            // Older than the agent. If that is news in an outage, its last data ends it.
            Some((None, _)) => {
                let heard = connection.heard().unwrap_or(at);
                self.begin_reachable(None, heard, connection.peer, outputs);
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
        outputs: &mut Vec<Output>,
    ) {
        let Why { cause, proxy } = why;
        if matches!(self.reach, Reach::Reachable { .. }) {
            self.trouble.begins(self.counts.total_errors());
        }
        self.counts.fail(CheckKind::Disconnect, cause, 1);
        self.last_activity = self.last_activity.max(at);
        outputs.push(Output::event(
            at,
            EventKind::Disconnected {
                peer_address: peer,
                cause,
                proxy_address: proxy,
            },
        ));
        self.blame(at, why, outputs);
        // Another one may have been live already, or since.
        let next = self
            .connections
            .values()
            .filter_map(|other| Some((other.live_span()?, other.peer)))
            .filter(|((_, until), _)| until.is_none_or(|until| until > at))
            .map(|((since, _), peer)| (since, peer))
            .min();
        match next {
            None => self.begin_outage(at, why, Some(peer), outputs),
            Some((Some(since), other)) if since > at => {
                self.begin_outage(at, why, Some(peer), outputs);
                self.begin_reachable(Some(since), since, other, outputs);
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
