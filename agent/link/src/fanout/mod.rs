//! One process and several peers at a time, which come and go: a [`Link`] to each, and the state of
//! the whole.

mod targets;
mod whole;

use std::{net::SocketAddr, time::Duration};

use self::{
    targets::{Targets, Well, canonical},
    whole::Whole,
};
use crate::{
    Cause, ConnectionId, CountedConnection, Counts, Event, EventKind, Input, Legacy, Link,
    LinkMachine, OpenConnection, Output, Progress, State, resync::Reconciliation, time::Timestamp,
};

/// One process and all the addresses that it dials: its targets.
///
/// A target begins with the first attempt to an address, and is over when the client has let go of
/// it (`target` has the rules); that is no error. The whole is
///
/// - unreachable while a target that is past its grace has no live connection,
/// - reachable while each has one,
/// - [idle](State::Idle) without any target,
/// - [unknown](State::Unknown) if its state depends on a target that is unknown, or on targets
///   that may exist unseen.
///
/// Outages of targets that overlap are one. The counts of a target stay after it is over.
///
/// Inputs go to the target of their address, also those of proxies: a proxy forwards to the address
/// it was given. A fan-out does not judge addresses or name lookups.
///
/// The driver's contract is [`Link`]'s. At most 64 targets are kept. Beyond that, the one that was
/// quiet for longest is over, and its connections are decided as if their ends had been lost.
#[derive(Clone, Debug, Default)]
pub struct Fanout {
    targets: Targets,
    whole: Whole,
    /// A listing that waits for looks.
    reconciliation: Option<Reconciliation>,
}

impl Fanout {
    /// The addresses that the process dials or is connected to.
    pub fn targets(&self) -> impl Iterator<Item = SocketAddr> {
        self.targets.addresses()
    }
}

impl LinkMachine for Fanout {
    fn handle(&mut self, at: Timestamp, input: Input, outputs: &mut Vec<Output>) {
        if self.whole.has_ended() {
            return;
        }
        if input == Input::ProcessEnded {
            self.process_ended(at, outputs);
            return;
        }
        self.on_deadline(at, outputs);
        match input {
            Input::Attempted {
                connection,
                peer_address: peer,
            } => {
                self.record(connection, peer, None, at, input, outputs);
            }
            Input::Established {
                connection,
                peer_address: peer,
                attempted,
            }
            | Input::Ended {
                connection,
                peer_address: peer,
                attempted,
                ..
            } => {
                let ended = matches!(input, Input::Ended { .. });
                self.record(connection, peer, attempted, at, input, outputs);
                if ended {
                    self.reconcile(outputs, |listing| listing.ended(connection));
                }
            }
            Input::RetransmissionTimeout { connection, .. } => {
                if let Some(peer) = self.targets.of(connection) {
                    self.pass_on(peer, at, input, outputs);
                }
            }
            Input::Sampled { connection, sample } => {
                if let Some(peer) = self.targets.of(connection) {
                    self.pass_on(peer, at, input, outputs);
                }
                self.reconcile(outputs, |listing| {
                    listing.looked(connection, sample.as_ref());
                });
            }
            Input::Proxy {
                peer_address: peer, ..
            } => self.pass_on(peer, at, input, outputs),
            Input::Resynchronised { open, missed } => {
                self.resynchronise(Reconciliation::new(at, open, missed), outputs);
            }
            Input::EvidenceLost(reason) => {
                if self.whole.evidence_lost(at, reason, &self.targets, outputs) {
                    self.tell_all(at, &Input::EvidenceLost(reason), outputs);
                }
            }
            Input::EvidenceBack(reason) => {
                self.tell_all(at, &Input::EvidenceBack(reason), outputs);
                self.whole.evidence_back(at, reason, &self.targets, outputs);
            }
            // Nobody knows which target the outage belonged to: it starts over.
            Input::Inherited(legacy) => self.whole.inherit(&legacy),
            Input::Counted(counted) => self.go_on(at, counted, outputs),
            // A forwarder without a target is idle, and each target has its own grace.
            Input::FollowsUnreached(_)
            | Input::LookedUp
            | Input::PeerAddresses(_)
            | Input::ProcessEnded => {}
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let of_listing = self.reconciliation.as_ref().map(Reconciliation::due);
        of_listing
            .into_iter()
            .chain(self.targets.next_deadline())
            .min()
    }

    fn on_deadline(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        if let Some(listing) = self.reconciliation.take_if(|listing| listing.due() <= now) {
            // Before the same moment decides what is gone.
            self.wake(listing.due() - Duration::from_nanos(1), outputs);
            self.complete(listing, outputs);
        }
        self.wake(now, outputs);
    }

    fn state(&self) -> State {
        self.whole.state(&self.targets)
    }

    fn never_reachable(&self) -> Option<Cause> {
        self.whole.never_reachable(&self.targets)
    }

    fn legacy(&self) -> Legacy {
        self.whole.legacy()
    }

    fn progress(&self) -> Progress {
        let mut progress = self.targets.progress();
        if let Some(listing) = &self.reconciliation {
            progress.undecided.add_all(&listing.missed);
        }
        progress
    }

    fn counts(&self) -> Counts {
        self.targets.counts()
    }

    fn peer_address(&self) -> Option<SocketAddr> {
        self.targets.peer_address()
    }

    fn live(&self) -> Vec<ConnectionId> {
        self.targets.live().map(|(id, _)| id).collect()
    }

    fn rtt(&self) -> Option<Duration> {
        self.targets.live().filter_map(|(_, rtt)| rtt).max()
    }

    fn heard(&self) -> Option<Timestamp> {
        self.targets.heard()
    }
}

// === Events of targets ===

impl Fanout {
    /// A record of a connection goes to its target; a new address begins a target.
    fn record(
        &mut self,
        connection: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        at: Timestamp,
        input: Input,
        outputs: &mut Vec<Output>,
    ) {
        if self.targets.of(connection).is_some() || !self.targets.is_past(peer, connection) {
            self.begin(peer, attempted, at, outputs);
            self.pass_on(peer, at, input, outputs);
        }
    }

    /// The agent before this one had these, and each belongs to its target.
    fn go_on(&mut self, at: Timestamp, counted: Vec<CountedConnection>, outputs: &mut Vec<Output>) {
        for known in counted {
            self.begin(known.peer_address, None, at, outputs);
            let input = Input::Counted(vec![known]);
            self.pass_on(known.peer_address, at, input, outputs);
        }
    }

    /// Makes a target at `peer`, if there is none, for a connection that was attempted at this
    /// time.
    fn begin(
        &mut self,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        at: Timestamp,
        outputs: &mut Vec<Output>,
    ) {
        if self.targets.contains(peer) {
            return;
        }
        if self.targets.is_full()
            && let Some(quietest) = self.targets.quietest()
        {
            self.drive(quietest, outputs, |link, outputs| link.abandon(at, outputs));
            self.over(quietest, at, outputs);
        }
        let begun = attempted.map_or(at, |attempted| attempted.min(at));
        self.targets.insert(peer, Link::target(begun));
        for reason in self.whole.missing_of_targets() {
            self.pass_on(peer, at, Input::EvidenceLost(reason), outputs);
        }
    }

    fn pass_on(
        &mut self,
        peer: SocketAddr,
        at: Timestamp,
        input: Input,
        outputs: &mut Vec<Output>,
    ) {
        self.drive(peer, outputs, |link, outputs| {
            link.handle(at, input, outputs);
        });
    }

    fn tell_all(&mut self, at: Timestamp, input: &Input, outputs: &mut Vec<Output>) {
        let targets: Vec<_> = self.targets().collect();
        for peer in targets {
            self.pass_on(peer, at, input.clone(), outputs);
        }
    }

    /// Each target does what is due by `now`.
    fn wake(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        for peer in self.targets.due(now) {
            self.drive(peer, outputs, |link, outputs| {
                link.on_deadline(now, outputs);
            });
        }
    }

    fn process_ended(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        if let Some(listing) = self.reconciliation.take() {
            self.complete(listing, outputs);
        }
        let mut ended = Vec::new();
        self.whole.end(at, &mut ended);
        self.tell_all(at, &Input::ProcessEnded, outputs);
        outputs.append(&mut ended);
    }
}

// === Resynchronisation ===

impl Fanout {
    /// Connections that a listing lacks are looked at first.
    fn resynchronise(&mut self, mut listing: Reconciliation, outputs: &mut Vec<Output>) {
        if let Some(before) = self.reconciliation.take() {
            listing.succeed(&before);
        }
        let targets: Vec<_> = self.targets().collect();
        for peer in targets {
            self.drive(peer, outputs, |link, outputs| {
                link.compare(&mut listing, outputs);
            });
        }
        self.reconciliation = Some(listing);
        self.reconcile(outputs, |_| {});
    }

    /// Notes something that a listing may wait for, and completes the listing if that was all.
    fn reconcile(&mut self, outputs: &mut Vec<Output>, note: impl FnOnce(&mut Reconciliation)) {
        if let Some(listing) = &mut self.reconciliation {
            note(listing);
        }
        let complete = self.reconciliation.take_if(|listing| listing.is_complete());
        if let Some(listing) = complete {
            self.complete(listing, outputs);
        }
    }

    /// Each missed end belongs to a connection of a target, or otherwise to none.
    fn complete(&mut self, mut listing: Reconciliation, outputs: &mut Vec<Output>) {
        let at = listing.at;
        // A listing may be older than records read since.
        let targets = &self.targets;
        listing
            .open
            .retain(|found| !targets.is_past(found.peer_address, found.connection));
        for found in listing.open.clone() {
            self.begin(found.peer_address, found.attempted, at, outputs);
        }
        let targets: Vec<_> = self.targets().collect();
        for peer in targets {
            self.drive(peer, outputs, |link, outputs| {
                let belongs = |found: &OpenConnection| canonical(found.peer_address) == peer;
                link.complete(&mut listing, belongs, outputs);
            });
        }
        if listing.missed.is_empty() {
            return;
        }
        let mut nobodys = Link::discovered(at);
        let missed = Input::Resynchronised {
            open: Vec::new(),
            missed: listing.missed,
        };
        nobodys.handle(at, missed, outputs);
        self.targets.count(nobodys.counts());
        self.targets.lose_track();
    }
}

// === Consequences for the whole ===

impl Fanout {
    /// Lets one target's link act, and turns its outputs into those of the whole.
    fn drive(
        &mut self,
        peer: SocketAddr,
        outputs: &mut Vec<Output>,
        act: impl FnOnce(&mut Link, &mut Vec<Output>),
    ) {
        let peer = canonical(peer);
        for output in self.targets.act(peer, act) {
            match output {
                Output::Sample(_) | Output::OutageGoesOn => outputs.push(output),
                Output::Event(event) => self.take(peer, event, outputs),
            }
        }
    }

    /// An event of the target at `peer`.
    fn take(&mut self, peer: SocketAddr, event: Event, outputs: &mut Vec<Output>) {
        let at = event.at;
        match event.kind {
            EventKind::Disconnected { .. } => outputs.push(Output::Event(event)),
            EventKind::Connected { .. } => {
                self.targets.answered(peer, at);
                outputs.push(Output::Event(event));
            }
            EventKind::ConnectFailed(failed) => {
                self.whole.remember(failed);
                outputs.push(Output::Event(event));
            }
            EventKind::Unreachable { cause, .. } => {
                let targets = &self.targets;
                self.whole.unreachable(peer, event, cause, targets, outputs);
            }
            EventKind::Reachable { peer_address, .. } => {
                let well = Well {
                    target: peer,
                    peer_address,
                };
                self.whole.settle(at, Some(well), &self.targets, outputs);
            }
            EventKind::Unknown { reason } => {
                self.whole.unknown(at, reason, &self.targets, outputs);
            }
            EventKind::Ended => self.over(peer, at, outputs),
            // The client let go of its live connection to the target.
            EventKind::Idle => self
                .whole
                .settle(at, self.targets.well(), &self.targets, outputs),
            // The driver creates this event.
            EventKind::Discovered => {}
        }
    }

    /// The target at `peer` is over.
    fn over(&mut self, peer: SocketAddr, at: Timestamp, outputs: &mut Vec<Output>) {
        if self.targets.remove(peer, at) && !self.whole.has_ended() {
            let well = self.targets.well();
            self.whole.settle(at, well, &self.targets, outputs);
        }
    }
}
