//! The link of one client to one peer: joins its connections and its assessment.
//!
//! An input goes to the connections; their findings go to the assessment; its outputs go to the
//! driver. Deadlines are in `due`.

mod due;

use std::{net::SocketAddr, time::Duration};

use crate::{
    Cause, ConnectionId, Counts, Input, Legacy, LinkMachine, OpenConnection, Output, Progress,
    State, UnknownReason,
    assessment::Assessment,
    connection::Ending,
    connections::Connections,
    resync::{self, Reconciliation},
    target::Target,
    time::Timestamp,
};

/// One client and one peer: whether they are connected, since when, and why not.
///
/// # Who calls what
///
/// - [`handle`](Self::handle) with each input and its time: the kernel's time of the event for
///   what the kernel half recorded, the clock for the rest.
/// - [`on_deadline`](Self::on_deadline) with the clock, once it has reached
///   [`next_deadline`](Self::next_deadline). An early call does nothing. Waiting inputs are passed
///   first.
/// - After each of these calls, the driver performs the outputs in their order. It answers an
///   [`Output::Sample`] with [`Input::Sampled`] as soon as possible; without an answer, the link
///   asks again.
/// - The getters at any time. They show the link as of the last of these calls.
///
/// # Time
///
/// Before it acts on an input, the link does everything that was due up to the input's time. So the
/// exact moment when the driver woke up makes no difference, with two deliberate exceptions. A
/// driver that slept through several liveness checks gets one, and the next is back on the 5 s
/// grid: nobody watched, so there was no observation. And [`Input::ProcessEnded`] comes before
/// anything that is due: a late driver reads a killed process's closes and its end at once, and the
/// end excuses the closes.
///
/// An input may be older than the one before. Deadlines then do not move back, but events are dated
/// by the input's own time. No duration is ever negative.
///
/// # Duplicates, disorder and loss
///
/// A connection is identified by its [`ConnectionId`]; each attempt and each loss of it is counted
/// once, even if records are repeated, late or out of order. A connection that is known by its end
/// alone is counted by what the end says. Inputs about a connection that ended are ignored; the
/// last 256 of those are remembered one by one, older ones are recognised by their birth. After
/// lost records, [`Input::Resynchronised`] corrects the counts.
///
/// # Proxies
///
/// A proxy in the pod accepts the client's connection and opens one of its own ([`Input::Proxy`]).
/// The proxy's connection never makes the link reachable, but its failure may explain a failure of
/// the client's connection. Then its cause is the cause. Only the proxy of that very connection
/// counts: it dialled within half a second after the client did and before the client was answered,
/// and it dialled one of the peer's addresses, if those are known. It must have failed since the
/// client's connection began, and:
///
/// - for a failed handshake, at any time since;
/// - for a live connection that its other side ended, within the second before;
/// - for a stalled connection, since the peer was last heard.
///
/// A proxy's SYN that has gone unanswered for 1 s counts as [`Cause::Timeout`]. A proxy that closes
/// its own connection explains nothing.
///
/// # What nobody can tell
///
/// From [`Input::EvidenceLost`] to the [`Input::EvidenceBack`] of the same reason, a link without a
/// live connection is [`State::Unknown`]. What is seen still counts (attempts, losses); liveness is
/// not checked, and no outage begins. An outage that was under way continues afterwards, unless the
/// link proves reachable; without one, the link gets a new start-up grace.
///
/// # Bounds
///
/// At most 1024 connections are tracked. Beyond that, the oldest one that is not live is decided as
/// if its end had been lost ([`Cause::Other`]).
///
/// [`Cause::Timeout`]: crate::Cause::Timeout
/// [`Cause::Other`]: crate::Cause::Other
#[derive(Clone, Debug)]
pub struct Link {
    connections: Connections,
    assessment: Assessment,
    /// A listing that waits for looks.
    reconciliation: Option<Reconciliation>,
}

impl Link {
    /// The link of a process that was discovered at `at`. Its counts start at 0.
    pub fn discovered(at: Timestamp) -> Self {
        Self {
            connections: Connections::new(at, false),
            assessment: Assessment::new(at, None),
            reconciliation: None,
        }
    }

    /// The link of a target that was first dialled at `at`.
    pub(crate) fn target(at: Timestamp) -> Self {
        Self {
            connections: Connections::new(at, true),
            assessment: Assessment::new(at, Some(Target::default())),
            reconciliation: None,
        }
    }

    /// Applies one input, which became true at `at`.
    pub fn handle(&mut self, at: Timestamp, input: Input, outputs: &mut Vec<Output>) {
        if input == Input::ProcessEnded {
            self.process_ended(at, outputs);
            return;
        }
        self.run_until(at, outputs);
        if self.assessment.has_ended() {
            return;
        }
        let connections = &mut self.connections;
        match input {
            Input::Attempted {
                connection,
                peer_address,
            } => {
                connections.attempted(at, connection, peer_address);
                // The client dials only when it has no connection, so an older one is gone.
                let of_before = UnknownReason::NotListed;
                self.assessment.evidence_back(at, of_before, outputs);
            }
            Input::Established {
                connection,
                peer_address,
                attempted,
            } => connections.established(at, connection, peer_address, attempted),
            Input::RetransmissionTimeout {
                connection,
                timeouts,
            } => connections.retransmission_timeout(at, connection, timeouts),
            Input::Ended {
                connection,
                peer_address,
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
                connections.ended(connection, peer_address, attempted, &ending);
                self.reconcile(|listing| listing.ended(connection));
            }
            Input::Sampled { connection, sample } => {
                connections.sampled(at, connection, sample.as_ref());
                self.reconcile(|listing| listing.looked(connection, sample.as_ref()));
            }
            Input::Resynchronised { open, missed } => {
                let mut listing = Reconciliation::new(at, open, missed);
                if let Some(before) = self.reconciliation.take() {
                    listing.succeed(&before);
                }
                listing.compare(connections);
                self.reconciliation = Some(listing);
                self.reconcile(|_| {});
                self.assess(outputs);
                // Connections that the listing lacks are looked at now.
                self.run_until(at, outputs);
                return;
            }
            Input::Proxy {
                connection,
                peer_address,
                attempted,
                event,
            } => {
                // A process that dials another address is no proxy of this link.
                if connections.may_be_the_peer(peer_address) {
                    let assessment = &mut self.assessment;
                    assessment.proxy(at, connection, peer_address, attempted, event);
                }
            }
            Input::LookedUp => {
                connections.looked_up(at);
                self.assessment.looked_up(at, connections.last_activity());
            }
            Input::PeerAddresses(addresses) => {
                connections.peer_addresses(at, addresses);
                self.assess(outputs);
                // An end that waited for the addresses may have settled long ago.
                self.run_until(at, outputs);
                return;
            }
            Input::EvidenceLost(reason) => self.assessment.evidence_lost(at, reason, outputs),
            Input::EvidenceBack(reason) => self.assessment.evidence_back(at, reason, outputs),
            Input::FollowsUnreached(cause) => {
                self.assessment.follows_unreached(at, cause, outputs);
            }
            Input::Inherited(legacy) => {
                let began = legacy.outage.as_ref().map(|outage| outage.since);
                connections.inherit(began, legacy.wary);
                self.assessment.inherit(legacy);
            }
            Input::Counted(counted) => connections.go_on(at, counted),
            // Handled above, before everything that is due.
            Input::ProcessEnded => {}
        }
        self.assess(outputs);
    }

    /// When to call [`on_deadline`](Self::on_deadline) next; `None` once ended.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.next_timer().map(|(due, _)| due)
    }

    /// Does what is due by `now`. An early call does nothing.
    pub fn on_deadline(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        self.run_until(now, outputs);
    }

    /// The state of the link.
    pub fn state(&self) -> State {
        self.assessment.state()
    }

    /// Why it has never been reachable; `None` if it has.
    pub fn never_reachable(&self) -> Option<Cause> {
        self.assessment.never_reachable()
    }

    /// What a successor of the agent needs to know of it.
    pub fn legacy(&self) -> Legacy {
        Legacy {
            wary: self.connections.is_wary(),
            ..self.assessment.legacy()
        }
    }

    /// How far it has come with what it was told.
    pub fn progress(&self) -> Progress {
        let mut progress = self.connections.progress();
        if let Some(listing) = &self.reconciliation {
            progress.undecided.add_all(&listing.missed);
        }
        progress
    }

    /// Its counts since its discovery.
    pub fn counts(&self) -> &Counts {
        self.assessment.counts()
    }

    /// The destination of the live connection, or else of the last attempt.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        let live = self.connections.newest_live();
        live.map(|connection| connection.peer)
            .or(self.assessment.last_peer())
    }

    /// The live connection, the newest if there are several, and its smoothed round-trip time.
    pub fn live(&self) -> Option<(ConnectionId, Option<Duration>)> {
        let live = self.connections.newest_live();
        live.map(|connection| (connection.id, connection.rtt()))
    }

    /// When the peer was last heard on an existing connection.
    pub fn heard(&self) -> Option<Timestamp> {
        self.connections.heard()
    }

    /// The connections that exist, as far as is known.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.connections.open()
    }
}

/// For a fan-out and its targets.
impl Link {
    /// A listing of several targets' connections was made.
    pub(crate) fn compare(&mut self, listing: &mut Reconciliation, outputs: &mut Vec<Output>) {
        listing.compare(&mut self.connections);
        self.run_until(listing.at, outputs);
    }

    /// A listing of several targets' connections is complete; those that `belong` are this link's.
    pub(crate) fn complete(
        &mut self,
        listing: &mut Reconciliation,
        belongs: impl Fn(&OpenConnection) -> bool,
        outputs: &mut Vec<Output>,
    ) {
        listing.complete(&mut self.connections, belongs);
        self.assess(outputs);
    }

    /// The target is dropped: its connections are decided as if their ends had been lost.
    pub(crate) fn abandon(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        self.connections.abandon(at);
        self.assess(outputs);
    }

    /// Another target of the same client answered at `at`.
    pub(crate) fn answered_elsewhere(&mut self, at: Timestamp) {
        self.assessment.answered_elsewhere(at);
    }

    /// Attempts may have been missed, so the length of the client's pauses is not known.
    pub(crate) fn lose_track(&mut self) {
        self.assessment.lose_track();
    }

    /// Errors since the link was reachable, or since its discovery.
    pub(crate) fn errors_since_reachable(&self) -> u64 {
        self.assessment.errors_since_reachable()
    }

    /// When the last dial or the last end was.
    pub(crate) fn last_activity(&self) -> Timestamp {
        self.connections.last_activity()
    }
}

/// Consequences.
impl Link {
    /// The process has ended at `at`, which comes before everything that is due.
    fn process_ended(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        if self.assessment.has_ended() {
            return;
        }
        self.complete_reconciliation();
        self.connections.process_ended(at);
        self.assess(outputs);
        self.assessment.end(at, outputs);
    }

    /// Notes something that a listing may wait for, and completes the listing if that was all.
    fn reconcile(&mut self, note: impl FnOnce(&mut Reconciliation)) {
        if let Some(listing) = &mut self.reconciliation {
            note(listing);
            if listing.is_complete() {
                self.complete_reconciliation();
            }
        }
    }

    fn complete_reconciliation(&mut self) {
        if let Some(mut listing) = self.reconciliation.take() {
            listing.complete(&mut self.connections, |_| true);
            resync::history(&mut self.connections, listing.at, &listing.missed);
        }
    }

    fn assess(&mut self, outputs: &mut Vec<Output>) {
        for finding in self.connections.take_findings() {
            self.assessment.take(finding, outputs);
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

    fn never_reachable(&self) -> Option<Cause> {
        self.never_reachable()
    }

    fn legacy(&self) -> Legacy {
        self.legacy()
    }

    fn progress(&self) -> Progress {
        self.progress()
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
