//! One process and several peers at a time, which come and go: a [`Link`] to each, and what they
//! amount to.

mod whole;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use self::whole::is_about_known_targets;
use crate::{
    Cause, ConnectionId, Counts, EventKind, Input, Link, LinkMachine, MissedEnds, OpenConnection,
    Output, State,
    limits::TARGETS,
    reachability::{Reach, Reachability},
    time::Timestamp,
    unknown::MissingEvidence,
};

/// One process and all the addresses that it dials: its targets.
///
/// A target begins with the first attempt to an address, and is over once the client has let go
/// of it (`target` has the rules); that is no error. The whole is
///
/// - unreachable while a target that is past its grace has no live connection,
/// - reachable while each has one,
/// - [idle](State::Idle) without any target,
/// - [unknown](State::Unknown) where it depends on a target that is unknown, or on targets of
///   which nothing may be known.
///
/// Outages of targets that overlap are one. What a target has counted stays counted when it is
/// over.
///
/// Inputs go to the target of their address, those of proxies too: a proxy passes on to the address
/// it was given. Which addresses are right, and which names were looked up, is not judged.
///
/// The driver's contract is [`Link`]'s. At most 64 targets are kept. Beyond, the one that was quiet
/// for longest is over, its connections decided as if their ends had been lost.
#[derive(Clone, Debug, Default)]
pub struct Fanout {
    targets: BTreeMap<SocketAddr, Link>,
    /// What was counted by targets that are over, and what belongs to none.
    past: Counts,
    /// When the last targets were over: a record of an older connection is late.
    over: VecDeque<(SocketAddr, Timestamp)>,
    reachability: Reachability,
    missing: MissingEvidence,
    /// The target whose outage began the newest one.
    began_by: Option<SocketAddr>,
}

impl Fanout {
    /// The addresses that it dials, or is connected to.
    pub fn targets(&self) -> impl Iterator<Item = SocketAddr> {
        self.targets.keys().copied()
    }

    fn has_ended(&self) -> bool {
        self.reachability.reach() == Reach::Ended
    }

    fn failing(&self) -> impl Iterator<Item = (&Link, Timestamp, Cause)> {
        self.targets.values().filter_map(|link| match link.state() {
            State::Unreachable { since, cause } => Some((link, since, cause)),
            State::Idle
            | State::Starting
            | State::Reachable { .. }
            | State::Unknown { .. }
            | State::Ended => None,
        })
    }

    /// The target that has been failing for longest.
    fn worst(&self) -> Option<(&Link, Cause)> {
        let longest = self.failing().min_by_key(|(_, since, _)| *since);
        longest.map(|(link, _, cause)| (link, cause))
    }
}

impl LinkMachine for Fanout {
    fn handle(&mut self, at: Timestamp, input: Input, outputs: &mut Vec<Output>) {
        if self.has_ended() {
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
            } => self.record(connection, peer, attempted, at, input, outputs),
            Input::RetransmissionTimeout { connection, .. } | Input::Sampled { connection, .. } => {
                if let Some(peer) = self.target_of(connection) {
                    self.pass_on(peer, at, input, outputs);
                }
            }
            Input::Proxy {
                peer_address: peer, ..
            } => self.pass_on(peer, at, input, outputs),
            Input::Resynchronised { open, missed } => {
                self.resynchronise(at, &open, missed, outputs);
            }
            Input::EvidenceLost(reason) => self.evidence_lost(at, reason, outputs),
            Input::EvidenceBack(reason) => self.evidence_back(at, reason, outputs),
            // A forwarder without a target is idle, and each target has its own grace.
            Input::FollowsUnreached(_)
            | Input::LookedUp
            | Input::PeerAddresses(_)
            | Input::ProcessEnded => {}
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.targets.values().filter_map(Link::next_deadline).min()
    }

    fn on_deadline(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        let mut due: Vec<_> = self
            .targets
            .iter()
            .filter_map(|(peer, link)| Some((link.next_deadline()?, *peer)))
            .filter(|(due, _)| *due <= now)
            .collect();
        due.sort_unstable();
        for (_, peer) in due {
            self.drive(peer, outputs, |link, outputs| {
                link.on_deadline(now, outputs);
            });
        }
    }

    fn state(&self) -> State {
        match self.reachability.reach() {
            Reach::Undecided if self.targets.is_empty() => State::Idle,
            Reach::Undecided => State::Starting,
            Reach::Reachable { since } => State::Reachable { since },
            Reach::Unreachable { since, onset } => State::Unreachable {
                since,
                cause: self.worst().map_or(onset, |(_, cause)| cause),
            },
            Reach::Unknown { since, reason, .. } => State::Unknown { since, reason },
            Reach::Ended => State::Ended,
        }
    }

    fn never_reachable(&self) -> Option<Cause> {
        (!self.reachability.was_reachable())
            .then(|| self.worst().map_or(Cause::Other, |(_, cause)| cause))
    }

    fn counts(&self) -> Counts {
        let mut counts = self.past.clone();
        for link in self.targets.values() {
            counts.add(link.counts());
        }
        counts
    }

    fn peer_address(&self) -> Option<SocketAddr> {
        let newest = || {
            let links = self.targets.values();
            links.max_by_key(|link| (link.live().is_some(), link.last_activity()))
        };
        let worst = self.worst().map(|(link, _)| link);
        worst.or_else(newest).and_then(Link::peer_address)
    }

    fn live(&self) -> Vec<ConnectionId> {
        let live = self.targets.values().filter_map(Link::live);
        live.map(|(id, _)| id).collect()
    }

    fn rtt(&self) -> Option<Duration> {
        let live = self.targets.values().filter_map(Link::live);
        live.filter_map(|(_, rtt)| rtt).max()
    }

    fn heard(&self) -> Option<Timestamp> {
        self.targets.values().filter_map(Link::heard).min()
    }
}

// === What happens to targets ===
impl Fanout {
    fn target_of(&self, connection: ConnectionId) -> Option<SocketAddr> {
        let mut targets = self.targets.iter();
        let found = targets.find(|(_, link)| link.connections().any(|id| id == connection));
        found.map(|(peer, _)| *peer)
    }

    /// Whether `connection` was over when its target was.
    fn is_past(&self, peer: SocketAddr, connection: ConnectionId) -> bool {
        let (peer, mut over) = (canonical(peer), self.over.iter());
        over.any(|(address, at)| *address == peer && connection.born <= *at)
    }

    /// A record of a connection goes to its target, which begins with it if it is new.
    fn record(
        &mut self,
        connection: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        at: Timestamp,
        input: Input,
        outputs: &mut Vec<Output>,
    ) {
        if self.target_of(connection).is_some() || !self.is_past(peer, connection) {
            self.begin(peer, attempted, at, outputs);
            self.pass_on(peer, at, input, outputs);
        }
    }

    /// Makes a target at `peer`, if there is none, for a connection that was attempted then.
    fn begin(
        &mut self,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        at: Timestamp,
        outputs: &mut Vec<Output>,
    ) {
        let peer = canonical(peer);
        if self.targets.contains_key(&peer) {
            return;
        }
        if self.targets.len() >= TARGETS {
            let quiet = self
                .targets
                .iter()
                .min_by_key(|(_, link)| (link.live().is_some(), link.last_activity()))
                .map(|(peer, _)| *peer);
            if let Some(quiet) = quiet {
                let gone = Input::Resynchronised {
                    open: Vec::new(),
                    missed: MissedEnds::default(),
                };
                self.pass_on(quiet, at, gone, outputs);
                self.remove(quiet, at, outputs);
            }
        }
        let begun = attempted.map_or(at, |attempted| attempted.min(at));
        self.targets.insert(peer, Link::target(begun));
        let missing: Vec<_> = self.missing.reasons().collect();
        for reason in missing
            .into_iter()
            .filter(|reason| is_about_known_targets(*reason))
        {
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

    /// Lets one target's link act, and turns its outputs into those of the whole.
    fn drive(
        &mut self,
        peer: SocketAddr,
        outputs: &mut Vec<Output>,
        act: impl FnOnce(&mut Link, &mut Vec<Output>),
    ) {
        let peer = canonical(peer);
        let Some(link) = self.targets.get_mut(&peer) else {
            return;
        };
        let mut of_target = Vec::new();
        act(link, &mut of_target);
        for output in of_target {
            self.take(peer, output, outputs);
        }
    }

    /// Each missed end belongs to a connection of some target, or else to none.
    fn resynchronise(
        &mut self,
        at: Timestamp,
        open: &[OpenConnection],
        mut missed: MissedEnds,
        outputs: &mut Vec<Output>,
    ) {
        for found in open {
            self.begin(found.peer_address, found.attempted, at, outputs);
        }
        let targets: Vec<_> = self.targets().collect();
        for peer in targets {
            let of_it = open
                .iter()
                .filter(|found| canonical(found.peer_address) == peer);
            let of_it: Vec<_> = of_it.copied().collect();
            self.drive(peer, outputs, |link, outputs| {
                link.reconcile(at, &of_it, &mut missed, outputs);
            });
        }
        if missed.is_empty() {
            return;
        }
        let mut nobodys = Link::discovered(at);
        let open = Vec::new();
        nobodys.handle(at, Input::Resynchronised { open, missed }, outputs);
        self.past.add(nobodys.counts());
        for link in self.targets.values_mut() {
            link.lose_track();
        }
    }

    fn process_ended(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        self.reachability.end();
        let targets: Vec<_> = self.targets().collect();
        for peer in targets {
            self.pass_on(peer, at, Input::ProcessEnded, outputs);
        }
        outputs.push(Output::event(at, EventKind::Ended));
    }
}

fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}
