//! One process and several peers at a time, which come and go: a [`Link`] to each, and what they
//! amount to.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use super::{
    Cause, ConnectionId, Counts, Event, EventKind, Input, Link, LinkMachine, MissedEnds,
    OpenConnection, Output, State, trouble::Trouble,
};
use crate::time::Timestamp;

/// One process and all the addresses that it dials: its targets.
///
/// A target begins with the first attempt to an address, and is over once the client has let go
/// of it (`target` has the evidence); that is no error. The whole is reachable while no target
/// that is past its grace lacks a live connection, an outage while one does, and
/// [idle](State::Idle) without any. One outage spans those of all targets that overlap. What a
/// target has counted stays counted when it is over.
///
/// Inputs go to the target of their address, those of proxies too: a proxy passes on to the address
/// it was given. Which addresses are right, and which names were looked up, is not judged.
///
/// The driver's contract is [`Link`]'s. At most [`TARGETS`] are kept. Beyond, the one that was
/// quiet for longest is over, its connections decided as if their ends had been lost.
#[derive(Clone, Debug, Default)]
pub struct Fanout {
    targets: BTreeMap<SocketAddr, Link>,
    reach: Reach,
    /// What targets counted that are over, and what goes with none.
    past: Counts,
    /// When the last ones were over: what is older is not news.
    over: VecDeque<(SocketAddr, Timestamp)>,
    /// Since it was last reachable.
    trouble: Trouble,
}

/// Where the whole stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reach {
    #[default]
    Idle,
    Reachable {
        since: Option<Timestamp>,
    },
    Unreachable {
        since: Timestamp,
        /// As of a link.
        onset: Cause,
        /// Whose outage it began as.
        by: SocketAddr,
    },
    Ended,
}

impl Fanout {
    /// The addresses that it is dialling, or connected to.
    pub fn targets(&self) -> impl Iterator<Item = SocketAddr> {
        self.targets.keys().copied()
    }

    fn failing(&self) -> impl Iterator<Item = (&Link, Timestamp, Cause)> {
        self.targets.values().filter_map(|link| match link.state() {
            State::Unreachable { since, cause } => Some((link, since, cause)),
            State::Idle | State::Starting | State::Reachable { .. } | State::Ended => None,
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
        if self.reach == Reach::Ended {
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
                    self.tell(peer, at, input, outputs);
                }
            }
            Input::Proxy {
                peer_address: peer, ..
            } => self.tell(peer, at, input, outputs),
            Input::Resynchronised { open, missed } => {
                self.resynchronise(at, &open, missed, outputs);
            }
            Input::LookedUp | Input::PeerAddresses(_) | Input::ProcessEnded => {}
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
            self.drive(peer, outputs, |link, told| link.on_deadline(now, told));
        }
    }

    fn state(&self) -> State {
        match self.reach {
            Reach::Idle if self.targets.is_empty() => State::Idle,
            Reach::Idle => State::Starting,
            Reach::Reachable { since } => State::Reachable { since },
            Reach::Unreachable { since, onset, .. } => State::Unreachable {
                since,
                cause: self.worst().map_or(onset, |(_, cause)| cause),
            },
            Reach::Ended => State::Ended,
        }
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

/// What happens to targets.
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

    /// What a record tells of a connection that was attempted then, as far as that is known.
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
            self.tell(peer, at, input, outputs);
        }
    }

    /// Sees to it that there is a target at `peer`, to which a connection was attempted then.
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
                self.tell(quiet, at, gone, outputs);
                self.remove(quiet, at, outputs);
            }
        }
        let begun = attempted.map_or(at, |attempted| attempted.min(at));
        self.targets.insert(peer, Link::target(begun));
    }

    fn tell(&mut self, peer: SocketAddr, at: Timestamp, input: Input, outputs: &mut Vec<Output>) {
        self.drive(peer, outputs, |link, told| link.handle(at, input, told));
    }

    /// Lets one target's link do something, and makes of its outputs those of the whole.
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
        let mut told = Vec::new();
        act(link, &mut told);
        for output in told {
            self.take(peer, output, outputs);
        }
    }

    /// Each missed end goes with a connection of some target, or else with none.
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
            self.drive(peer, outputs, |link, told| {
                link.reconcile(at, &of_it, &mut missed, told);
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
        self.reach = Reach::Ended;
        let targets: Vec<_> = self.targets().collect();
        for peer in targets {
            self.tell(peer, at, Input::ProcessEnded, outputs);
        }
        outputs.push(Output::event(at, EventKind::Ended));
    }
}

/// What follows for the whole.
impl Fanout {
    fn take(&mut self, peer: SocketAddr, output: Output, outputs: &mut Vec<Output>) {
        let Output::Event(Event { at, kind }) = &output else {
            outputs.push(output);
            return;
        };
        let at = *at;
        match kind {
            EventKind::Disconnected { .. } => outputs.push(output),
            EventKind::Connected { .. } => {
                let others = self.targets.iter_mut().filter(|(other, _)| **other != peer);
                for (_, link) in others {
                    link.answered_elsewhere(at);
                }
                outputs.push(output);
            }
            EventKind::ConnectFailed(failed) => {
                self.trouble.remember(*failed);
                outputs.push(output);
            }
            EventKind::Unreachable { cause, .. } => match &mut self.reach {
                Reach::Idle | Reach::Reachable { .. } => {
                    self.reach = Reach::Unreachable {
                        since: at,
                        onset: *cause,
                        by: peer,
                    };
                    let of_it = self.targets.get(&peer).map(Link::errors_since_reachable);
                    let before = self.counts().total_errors() - of_it.unwrap_or_default();
                    self.trouble.begins(before);
                    outputs.push(output);
                }
                Reach::Unreachable { onset, by, .. } if *by == peer && *onset == Cause::Other => {
                    *onset = *cause;
                    outputs.push(output);
                }
                Reach::Unreachable { .. } | Reach::Ended => {}
            },
            EventKind::Reachable { peer_address, .. } => {
                let mut others = self.targets.iter().filter(|(other, _)| **other != peer);
                if !others.any(|(_, link)| matches!(link.state(), State::Unreachable { .. })) {
                    self.begin_reachable(peer, at, *peer_address, outputs);
                }
            }
            EventKind::Ended => self.remove(peer, at, outputs),
            // A link with one peer never says so.
            EventKind::Discovered | EventKind::Idle => {}
        }
    }

    /// The target at `peer` is over.
    fn remove(&mut self, peer: SocketAddr, at: Timestamp, outputs: &mut Vec<Output>) {
        let Some(link) = self.targets.remove(&peer) else {
            return;
        };
        self.past.add(link.counts());
        self.over.retain(|(address, _)| *address != peer);
        if self.over.len() >= TARGETS {
            self.over.pop_front();
        }
        self.over.push_back((peer, at));
        if self.reach == Reach::Ended || self.failing().next().is_some() {
            return;
        }
        let well = self.targets.iter().find_map(|(peer, link)| {
            let reachable = matches!(link.state(), State::Reachable { .. });
            Some((*peer, reachable.then(|| link.peer_address())??))
        });
        match (self.reach, well) {
            (_, Some((peer, address))) => self.begin_reachable(peer, at, address, outputs),
            (Reach::Idle, None) => {}
            (_, None) => {
                self.reach = Reach::Idle;
                self.trouble.clear();
                outputs.push(Output::event(at, EventKind::Idle));
            }
        }
    }

    /// No target is failing, and the one at `target` is reachable, by `peer`.
    fn begin_reachable(
        &mut self,
        target: SocketAddr,
        at: Timestamp,
        peer: SocketAddr,
        outputs: &mut Vec<Output>,
    ) {
        let state = self.targets.get(&target).map(Link::state);
        let (since, at, outage) = match self.reach {
            Reach::Reachable { .. } | Reach::Ended => return,
            Reach::Idle if state == Some(State::Reachable { since: None }) => (None, at, None),
            Reach::Idle => (Some(at), at, None),
            Reach::Unreachable {
                since: began,
                onset,
                ..
            } => {
                let at = at.max(began);
                let errors = self.counts().total_errors();
                let outage = self.trouble.outage(began, at, onset, errors);
                (Some(at), at, Some(outage))
            }
        };
        self.reach = Reach::Reachable { since };
        self.trouble.clear();
        outputs.push(Output::event(
            at,
            EventKind::Reachable {
                peer_address: peer,
                outage,
            },
        ));
    }
}

fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// How many targets are kept, and how many that are over are remembered. Knative has ten buckets
/// at most, and two addresses for the owner of each.
const TARGETS: usize = 64;
