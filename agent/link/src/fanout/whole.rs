//! What follows for the whole from what happens to its targets, and from evidence that is missing.

use std::net::SocketAddr;

use super::Fanout;
use crate::{
    Event, EventKind, Input, Link, LinkMachine as _, Output, State, UnknownReason, limits::TARGETS,
    reachability::Reach, time::Timestamp,
};

// === From what happens to a target ===

impl Fanout {
    pub(super) fn take(&mut self, peer: SocketAddr, output: Output, outputs: &mut Vec<Output>) {
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
                self.reachability.remember(*failed);
                outputs.push(output);
            }
            EventKind::Unreachable { cause, .. } => {
                let of_it = self.targets.get(&peer).map(Link::errors_since_reachable);
                if self.reachability.begin_outage(at, *cause) {
                    self.began_by = Some(peer);
                    let before = self.counts().total_errors() - of_it.unwrap_or_default();
                    self.reachability.errors_begin(before);
                    outputs.push(output);
                } else if self.began_by == Some(peer) && self.reachability.name_cause(*cause) {
                    outputs.push(output);
                }
            }
            EventKind::Reachable { peer_address, .. } => {
                self.settle(at, Some((peer, *peer_address)), outputs);
            }
            EventKind::Unknown { reason } => {
                if self.failing().next().is_none() {
                    self.lose_sight(at, *reason, outputs);
                }
            }
            EventKind::Ended => self.remove(peer, at, outputs),
            // A link with one peer never says so.
            EventKind::Discovered | EventKind::Idle => {}
        }
    }

    /// The target at `peer` is over.
    pub(super) fn remove(&mut self, peer: SocketAddr, at: Timestamp, outputs: &mut Vec<Output>) {
        let Some(link) = self.targets.remove(&peer) else {
            return;
        };
        self.past.add(link.counts());
        self.over.retain(|(address, _)| *address != peer);
        if self.over.len() >= TARGETS {
            self.over.pop_front();
        }
        self.over.push_back((peer, at));
        if !self.has_ended() {
            self.settle(at, self.well(), outputs);
        }
    }

    /// A target is not failing, or not unknown, any more: what that makes of the whole, where one
    /// that is `well` is reachable by this address.
    fn settle(
        &mut self,
        at: Timestamp,
        well: Option<(SocketAddr, SocketAddr)>,
        outputs: &mut Vec<Output>,
    ) {
        if self.failing().next().is_some() {
            return;
        }
        match (self.unknown(), well, self.reachability.reach()) {
            (Some(reason), ..) => self.lose_sight(at, reason, outputs),
            (None, Some((peer, address)), _) => self.recover(peer, at, address, outputs),
            (None, None, Reach::Undecided) => {}
            (None, None, _) => self.rest(at, outputs),
        }
    }

    /// Nothing is left that is reachable or not.
    fn rest(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        match self.missing.reason() {
            Some(reason) => self.lose_sight(at, reason, outputs),
            None => {
                self.reachability.rest();
                outputs.push(Output::event(at, EventKind::Idle));
            }
        }
    }

    /// No target is failing, and the one at `target` is reachable, by `peer_address`.
    fn recover(
        &mut self,
        target: SocketAddr,
        at: Timestamp,
        peer_address: SocketAddr,
        outputs: &mut Vec<Output>,
    ) {
        let state = self.targets.get(&target).map(Link::state);
        let since = (state != Some(State::Reachable { since: None })).then_some(at);
        let errors = self.counts().total_errors();
        if let Some(recovery) = self.reachability.recover(since, at, errors) {
            let reachable = EventKind::Reachable {
                outage: recovery.outage,
                peer_address,
            };
            outputs.push(Output::event(recovery.at, reachable));
        }
    }

    /// A target that is reachable, and by which address.
    fn well(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.targets.iter().find_map(|(peer, link)| {
            let reachable = matches!(link.state(), State::Reachable { .. });
            Some((*peer, reachable.then(|| link.peer_address())??))
        })
    }
}

// === From what nobody can tell ===

/// Whether this is about targets that are known: that those from before the agent are not listed
/// is about others.
pub(super) const fn is_about_known_targets(reason: UnknownReason) -> bool {
    match reason {
        UnknownReason::NotListed => false,
        UnknownReason::NoRoom | UnknownReason::EventsMissed | UnknownReason::NotObserved => true,
    }
}

impl Fanout {
    /// From `at` on evidence may be missing.
    pub(super) fn evidence_lost(
        &mut self,
        at: Timestamp,
        reason: UnknownReason,
        outputs: &mut Vec<Output>,
    ) {
        self.missing.lost(reason);
        if self.targets.is_empty() {
            self.lose_sight(at, reason, outputs);
        } else if is_about_known_targets(reason) {
            self.tell_all(at, &Input::EvidenceLost(reason), outputs);
        }
    }

    /// From `at` on nothing is missing any more for this reason.
    pub(super) fn evidence_back(
        &mut self,
        at: Timestamp,
        reason: UnknownReason,
        outputs: &mut Vec<Output>,
    ) {
        self.missing.back(reason);
        self.tell_all(at, &Input::EvidenceBack(reason), outputs);
        if matches!(self.reachability.reach(), Reach::Unknown { .. }) {
            self.settle(at, self.well(), outputs);
        }
    }

    /// Why it cannot be told of a target what it is.
    fn unknown(&self) -> Option<UnknownReason> {
        self.targets.values().find_map(|link| match link.state() {
            State::Unknown { reason, .. } => Some(reason),
            State::Starting
            | State::Idle
            | State::Reachable { .. }
            | State::Unreachable { .. }
            | State::Ended => None,
        })
    }

    /// It cannot be told any more, since `at`, what the whole is.
    fn lose_sight(&mut self, at: Timestamp, reason: UnknownReason, outputs: &mut Vec<Output>) {
        if self.reachability.lose_sight(at, reason) {
            outputs.push(Output::event(at, EventKind::Unknown { reason }));
        }
    }

    fn tell_all(&mut self, at: Timestamp, input: &Input, outputs: &mut Vec<Output>) {
        let targets: Vec<_> = self.targets().collect();
        for peer in targets {
            self.pass_on(peer, at, input.clone(), outputs);
        }
    }
}
