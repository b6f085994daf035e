//! The connections of a client to one peer, and what is certain about them.
//!
//! This module and `verdicts` turn inputs into findings. The assessment decides what a finding
//! means for the link.

mod verdicts;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use statlink_ebpf::{End, Phase};

use crate::{
    Cause, ConnectionId, CountedConnection, OpenConnection, Progress, Sample,
    address_check::PeerAddresses,
    cause,
    connection::{Connection, Due, Ended, Ending, Step},
    finding::Finding,
    races::Race,
    table::Table,
    time::Timestamp,
    timings::{HANDSHAKE, SETTLE},
    unaccounted::Unaccounted,
};

/// Every connection that exists, or that ended and is not decided yet.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    table: Table,
    /// Connections that were decided without their ends.
    unaccounted: Unaccounted,
    addresses: PeerAddresses,
    /// The newest start or end of any connection.
    last_activity: Timestamp,
    /// The first name lookup since then.
    looked_up: Option<Timestamp>,
    /// Whether the client may let go of the peer while it runs, so that a close may not be a loss.
    may_withdraw: bool,
    /// The last dial was answered and held and then refused: the next ones must show more before
    /// they count.
    wary: bool,
    /// When the outage began that the agent before this one left.
    outage_before: Option<Timestamp>,
    /// What became certain since the last [`take_findings`](Self::take_findings).
    findings: Vec<Finding>,
}

// === Records and looks ===

impl Connections {
    /// No connections yet, as of `at`.
    pub(crate) fn new(at: Timestamp, may_withdraw: bool) -> Self {
        Self {
            table: Table::default(),
            unaccounted: Unaccounted::default(),
            addresses: PeerAddresses::default(),
            last_activity: at,
            looked_up: None,
            may_withdraw,
            wary: false,
            outage_before: None,
            findings: Vec::new(),
        }
    }

    /// What became certain since the last call, in order.
    pub(crate) fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// What the agent before this one left: the begin of an outage that has not ended, if any, and
    /// whether it was wary of the next dial.
    pub(crate) fn inherit(&mut self, outage_began: Option<Timestamp>, wary: bool) {
        self.outage_before = outage_began;
        self.wary = wary;
    }

    /// The agent before this one had these, and counted their dials: as of `at`, they are as good as older
    /// than the agent.
    pub(crate) fn go_on(&mut self, at: Timestamp, counted: Vec<CountedConnection>) {
        for CountedConnection {
            connection,
            peer_address,
            stalled,
        } in counted
        {
            let mut known = Connection::older(connection, peer_address, at);
            // In an outage, a look tells whether that is the one that it was lost to.
            if let Some(onset) = stalled.filter(|_| self.outage_before.is_none()) {
                known.stalled_before(onset, at);
            }
            // It began before, and may have ended before.
            self.track(known, connection.born, at);
        }
    }

    /// How far it has come with what it was told.
    pub(crate) fn progress(&self) -> Progress {
        let mut progress = Progress::default();
        for known in self.table.iter() {
            if known.is_counted() {
                progress.counted.push(CountedConnection {
                    connection: known.id,
                    peer_address: known.peer,
                    stalled: known.stalled(),
                });
            }
            if let Some((phase, how)) = known.undecided() {
                progress.undecided.add(phase, how, 1);
            }
        }
        progress
    }

    /// The client asked a name server at `at`.
    pub(crate) fn looked_up(&mut self, at: Timestamp) {
        if self
            .looked_up
            .is_none_or(|first| first <= self.last_activity)
        {
            self.looked_up = Some(at);
        }
    }

    /// connect() was called at `at`.
    pub(crate) fn attempted(&mut self, at: Timestamp, id: ConnectionId, peer: SocketAddr) {
        if self.table.is_news(id) {
            let mut connection = Connection::connecting(id, peer, Some(at));
            let of_this_dial = |looked_up: &Timestamp| {
                *looked_up > self.last_activity && *looked_up + HANDSHAKE > at
            };
            connection.looked_up(self.looked_up.take().filter(of_this_dial));
            self.track(connection, at, at);
        }
    }

    /// The TCP handshake was complete at `at`.
    pub(crate) fn established(
        &mut self,
        at: Timestamp,
        id: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
    ) {
        if let Some(known) = self.table.get_mut(id) {
            known.establish(at, attempted);
            self.judge_losers();
        } else if self.table.is_news(id) {
            let fresh = Connection::established(id, peer, attempted, at);
            self.track(fresh, attempted.unwrap_or(at), at);
            self.judge_losers();
        }
    }

    /// A listing made at `at` contains it.
    pub(crate) fn listed(&mut self, at: Timestamp, found: &OpenConnection) {
        if let Some(known) = self.table.get_mut(found.connection) {
            known.is_listed(found, at);
        // It exists, so its birth does not matter: only its own tombstone says otherwise.
        } else if !self.table.is_buried(found.connection) {
            let since = found.attempted.map_or(at, |attempted| attempted.min(at));
            self.track(Connection::listed(found, at), since, at);
        }
    }

    /// A look at it returned `sample`.
    pub(crate) fn sampled(&mut self, at: Timestamp, id: ConnectionId, sample: Option<&Sample>) {
        // Out of the table, so that only the others are in it.
        let Some(mut connection) = self.table.remove(id) else {
            return;
        };
        // Three steps at most: the handshake took too long, it was upgraded after all, and it
        // stalls.
        for _ in 0..3 {
            let Some(step) = connection.look(at, sample) else {
                break;
            };
            self.step(&connection, step);
        }
        self.table.insert(connection);
    }

    /// Data sent on it went unacknowledged.
    pub(crate) fn retransmission_timeout(&mut self, at: Timestamp, id: ConnectionId, timeouts: u8) {
        let Some(mut connection) = self.table.remove(id) else {
            return;
        };
        if let Some(onset) = connection.retransmission_timeout(at, timeouts) {
            let cause = Cause::Stalled;
            self.step(&connection, Step::Stalled { onset, cause });
        }
        self.table.insert(connection);
    }

    /// An attempt failed or a connection ended.
    pub(crate) fn ended(
        &mut self,
        id: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        ending: &Ending,
    ) {
        self.unaccounted.recorded(id);
        let ended = match self.table.get(id) {
            Some(known) if !known.is_open() => return,
            Some(known) => *known,
            None if self.table.is_past(id) => return,
            None => {
                let mut unseen = Connection::from_its_end(id, peer, attempted, ending);
                unseen.follows_outage(self.outage_before);
                if self.wary {
                    unseen.beware();
                }
                unseen.first_check(self.addresses.check(peer, ending.at));
                unseen
            }
        };
        self.table.remove(id);
        self.findings.push(Finding::Dialled(ended.peer));
        self.end(ended, ending);
    }

    /// `number` ends were missed, of connections of which nothing else is known.
    pub(crate) fn ended_unseen(&mut self, at: Timestamp, phase: Phase, how: End, number: u32) {
        self.last_activity = self.last_activity.max(at);
        self.findings.push(Finding::EndedUnseen {
            at,
            phase,
            how,
            number,
        });
    }

    /// From `at` on, the peer's addresses are `addresses`; `None` means not known.
    pub(crate) fn peer_addresses(&mut self, at: Timestamp, addresses: Option<BTreeSet<IpAddr>>) {
        self.addresses.update(addresses);
        for id in self.table.ids() {
            let Some(mut connection) = self.table.remove(id) else {
                continue;
            };
            let check = self.addresses.check(connection.peer, at);
            match connection.check_again(check, at) {
                Some(ending) => self.end(connection, &ending),
                None => {
                    self.table.insert(connection);
                }
            }
        }
    }

    /// The process has ended at `at`. Earlier ends that were in doubt are decided now; open
    /// connections end with the process.
    pub(crate) fn process_ended(&mut self, at: Timestamp) {
        for connection in self.table.take_all() {
            // An end by this side shortly before belongs to the process's end.
            if let Some((ending, verdict)) = connection.condemned_end()
                && !(cause::is_local(ending.how) && at <= ending.at + SETTLE)
            {
                self.decide(&connection, ending.at, verdict);
            }
            if let Some(closed) = connection.closed().filter(|closed| !closed.is_local) {
                self.decide(&connection, closed.at, closed.verdict);
            }
        }
    }
}

// === Deadlines ===

impl Connections {
    /// What is due next.
    pub(crate) fn next_due(&self) -> Option<(Timestamp, Due, ConnectionId)> {
        self.table.next_due()
    }

    /// A sample was requested.
    pub(crate) fn asked(&mut self, id: ConnectionId, now: Timestamp) {
        if let Some(connection) = self.table.get_mut(id) {
            connection.asked(now);
        }
    }

    /// An end has settled, as of `at`: the process lives on.
    pub(crate) fn settle(&mut self, id: ConnectionId, at: Timestamp) {
        let Some(connection) = self.table.remove(id) else {
            return;
        };
        // Its close is all that will be known of it.
        let Some(closed) = connection.closed() else {
            return;
        };
        match self.table.race(&connection) {
            Race::Lost => self.lose_race(&connection),
            Race::Undecided => self.table.hold(connection),
            Race::None if self.is_let_go(closed.verdict) => self.let_go(&connection, closed.at),
            Race::None => {
                self.decide(&connection, closed.at, closed.verdict);
                self.table.release(at);
            }
        }
    }

    /// The doubt about an address ends: it is wrong.
    pub(crate) fn condemn(&mut self, id: ConnectionId, at: Timestamp) {
        let Some(mut connection) = self.table.remove(id) else {
            return;
        };
        let (ended, was_live) = connection.condemn(at);
        if let Some(ending) = ended {
            self.end(connection, &ending);
            return;
        }
        if was_live {
            self.lost(&connection, at, Cause::WrongPeer);
        }
        self.table.insert(connection);
    }

    /// Looks have found it gone for long enough, and no record of its end came.
    pub(crate) fn gone(&mut self, id: ConnectionId, at: Timestamp) {
        if let Some(connection) = self.table.remove(id) {
            self.end_unseen(&connection, at);
            self.table.release(at);
        }
    }
}

// === Resynchronisation ===

impl Connections {
    /// The connections that exist, as far as is known.
    pub(crate) fn open(&self) -> impl Iterator<Item = ConnectionId> {
        self.table.open()
    }

    /// A listing made at `at` lacks it, so look at it. Returns when looks found it gone, if they
    /// did.
    pub(crate) fn look_for(&mut self, id: ConnectionId, at: Timestamp) -> Option<Timestamp> {
        self.table.get_mut(id)?.look_for(at)
    }

    /// Decides all open connections as if their ends had been lost.
    pub(crate) fn abandon(&mut self, at: Timestamp) {
        let open: Vec<_> = self.open().collect();
        for id in open {
            self.gone(id, at);
        }
    }

    /// Removes the first of `gone` that is known to have come this far.
    pub(crate) fn take_gone(
        &mut self,
        gone: &mut Vec<ConnectionId>,
        progress: Phase,
    ) -> Option<Connection> {
        let index = gone.iter().position(|id| {
            let known = self.table.get(*id);
            known.is_some_and(|known| known.progress() == Some(progress))
        })?;
        self.table.remove(gone.remove(index))
    }

    /// Removes one that came this far and was decided without its end; returns whether there was
    /// one.
    pub(crate) fn take_unaccounted(&mut self, progress: Phase, now: Timestamp) -> bool {
        self.unaccounted.take(progress, now)
    }

    /// `connection`, which is no longer in the table, ended as the kernel half reports.
    pub(crate) fn end(&mut self, mut connection: Connection, ending: &Ending) {
        let (upgrade, ended) = connection.end(ending);
        if let Some(upgrade) = upgrade {
            self.upgraded(&connection, upgrade);
        }
        match ended {
            Ended::Waits => {
                self.last_activity = self.last_activity.max(ending.at);
                // At once, not when it settles: the next dial may come sooner.
                self.wary |= connection
                    .closed()
                    .is_some_and(|closed| closed.may_be_refusal);
                match self.table.race(&connection) {
                    Race::Lost => self.lose_race(&connection),
                    Race::Undecided | Race::None => {
                        self.table.insert(connection);
                    }
                }
            }
            Ended::Decided(verdict) => self.decide(&connection, ending.at, verdict),
        }
        self.table.release(ending.at);
    }

    /// `connection`, which is no longer in the table, is gone for an unknown cause.
    pub(crate) fn end_unseen(&mut self, connection: &Connection, at: Timestamp) {
        if let Some(progress) = connection.progress() {
            self.unaccounted.add(connection.id, progress, at);
        }
        let (at, verdict) = connection.end_unseen(at);
        self.decide(connection, at, verdict);
    }
}

// === Getters ===

impl Connections {
    /// The newest connection that is live.
    pub(crate) fn newest_live(&self) -> Option<&Connection> {
        self.table.newest_live()
    }

    /// When the peer was last heard on an existing connection.
    pub(crate) fn heard(&self) -> Option<Timestamp> {
        self.table.heard()
    }

    /// Whether this may be an address of the peer, as far as those are known.
    pub(crate) fn may_be_the_peer(&self, address: SocketAddr) -> bool {
        self.addresses.may_include(address)
    }

    /// Whether the next dial must show more before it counts.
    pub(crate) fn is_wary(&self) -> bool {
        self.wary
    }

    /// The newest start or end of any connection.
    pub(crate) fn last_activity(&self) -> Timestamp {
        self.last_activity
    }

    /// Since when there is no connection and no attempt; `None` while there is one.
    pub(crate) fn quiet_since(&self) -> Option<Timestamp> {
        self.table.is_empty().then_some(self.last_activity)
    }
}
