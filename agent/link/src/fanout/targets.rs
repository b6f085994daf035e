//! The targets of a fan-out: a link to each dialled address, and the counts of those that are over.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use crate::{
    Cause, ConnectionId, Counts, Link, Output, Progress, State, UnknownReason, limits::TARGETS,
    time::Timestamp,
};

/// All targets. An IPv4 address that is mapped into IPv6 counts as the IPv4 address.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets {
    links: BTreeMap<SocketAddr, Link>,
    /// The counts of targets that are over, and those that belong to no target.
    past: Counts,
    /// When the last targets ended: a record of an older connection is late.
    over: VecDeque<(SocketAddr, Timestamp)>,
}

/// A reachable target.
pub(super) struct Well {
    /// Its address.
    pub(super) target: SocketAddr,
    /// The destination of its live connection.
    pub(super) peer_address: SocketAddr,
}

// === Lookup ===

impl Targets {
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.links.keys().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.links.len() >= TARGETS
    }

    pub(super) fn contains(&self, peer: SocketAddr) -> bool {
        self.links.contains_key(&canonical(peer))
    }

    pub(super) fn get(&self, peer: SocketAddr) -> Option<&Link> {
        self.links.get(&canonical(peer))
    }

    /// The target of this connection.
    pub(super) fn of(&self, connection: ConnectionId) -> Option<SocketAddr> {
        let mut links = self.links.iter();
        let found = links.find(|(_, link)| link.connections().any(|id| id == connection));
        found.map(|(peer, _)| *peer)
    }

    /// The target that was quiet for longest.
    pub(super) fn quietest(&self) -> Option<SocketAddr> {
        let links = self.links.iter();
        links
            .min_by_key(|(_, link)| (link.live().is_some(), link.last_activity()))
            .map(|(peer, _)| *peer)
    }

    /// Whether `connection` had ended when its target was over.
    pub(super) fn is_past(&self, peer: SocketAddr, connection: ConnectionId) -> bool {
        let (peer, mut over) = (canonical(peer), self.over.iter());
        over.any(|(address, at)| *address == peer && connection.born <= *at)
    }
}

// === Changes ===

impl Targets {
    pub(super) fn insert(&mut self, peer: SocketAddr, link: Link) {
        self.links.insert(canonical(peer), link);
    }

    /// The target at `peer` was over at `at`; returns whether there was one.
    pub(super) fn remove(&mut self, peer: SocketAddr, at: Timestamp) -> bool {
        let peer = canonical(peer);
        let Some(link) = self.links.remove(&peer) else {
            return false;
        };
        self.count(link.counts());
        self.over.retain(|(address, _)| *address != peer);
        if self.over.len() >= TARGETS {
            self.over.pop_front();
        }
        self.over.push_back((peer, at));
        true
    }

    /// Adds counts that belong to no target.
    pub(super) fn count(&mut self, counts: &Counts) {
        self.past.add(counts);
    }

    /// Lets one target act.
    pub(super) fn act(
        &mut self,
        peer: SocketAddr,
        act: impl FnOnce(&mut Link, &mut Vec<Output>),
    ) -> Vec<Output> {
        let mut outputs = Vec::new();
        if let Some(link) = self.links.get_mut(&canonical(peer)) {
            act(link, &mut outputs);
        }
        outputs
    }

    /// The target at `peer` was answered at `at`.
    pub(super) fn answered(&mut self, peer: SocketAddr, at: Timestamp) {
        let others = self.links.iter_mut().filter(|(other, _)| **other != peer);
        for (_, link) in others {
            link.answered_elsewhere(at);
        }
    }

    /// Attempts may have been missed.
    pub(super) fn lose_track(&mut self) {
        for link in self.links.values_mut() {
            link.lose_track();
        }
    }
}

// === Deadlines ===

impl Targets {
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.links.values().filter_map(Link::next_deadline).min()
    }

    /// The targets that need a call by `now`, in the order of their deadlines.
    pub(super) fn due(&self, now: Timestamp) -> Vec<SocketAddr> {
        let links = self.links.iter();
        let mut due: Vec<_> = links
            .filter_map(|(peer, link)| Some((link.next_deadline()?, *peer)))
            .filter(|(due, _)| *due <= now)
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, peer)| peer).collect()
    }
}

// === Getters ===

impl Targets {
    /// The target that has been failing for longest, and why.
    pub(super) fn worst(&self) -> Option<(&Link, Cause)> {
        let failing = self.links.values().filter_map(|link| match link.state() {
            State::Unreachable { since, cause } => Some((link, since, cause)),
            State::Idle
            | State::Starting
            | State::Reachable { .. }
            | State::Unknown { .. }
            | State::Ended => None,
        });
        let longest = failing.min_by_key(|(_, since, _)| *since);
        longest.map(|(link, _, cause)| (link, cause))
    }

    /// Why one target's state is unknown.
    pub(super) fn unknown(&self) -> Option<UnknownReason> {
        let mut links = self.links.values();
        links.find_map(|link| link.state().unknown_reason())
    }

    /// A target that is reachable.
    pub(super) fn well(&self) -> Option<Well> {
        self.links.iter().find_map(|(target, link)| {
            let reachable = matches!(link.state(), State::Reachable { .. });
            Some(Well {
                target: *target,
                peer_address: reachable.then(|| link.peer_address())??,
            })
        })
    }

    /// The counts of all targets, present and past.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.past.clone();
        for link in self.links.values() {
            counts.add(link.counts());
        }
        counts
    }

    /// How far all have come with what they were told.
    pub(super) fn progress(&self) -> Progress {
        let mut progress = Progress::default();
        for link in self.links.values() {
            progress.add(link.progress());
        }
        progress
    }

    /// The destination of the target that says most.
    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        let newest = || {
            let links = self.links.values();
            links.max_by_key(|link| (link.live().is_some(), link.last_activity()))
        };
        let worst = self.worst().map(|(link, _)| link);
        worst.or_else(newest).and_then(Link::peer_address)
    }

    /// One live connection of each target that has one, with its smoothed round-trip time.
    pub(super) fn live(&self) -> impl Iterator<Item = (ConnectionId, Option<Duration>)> {
        self.links.values().filter_map(Link::live)
    }

    /// When the peer was last heard on the target that was silent for longest.
    pub(super) fn heard(&self) -> Option<Timestamp> {
        self.links.values().filter_map(Link::heard).min()
    }
}

pub(super) fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}
