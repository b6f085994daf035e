//! The state of a fan-out's targets together: how its outages begin and end, and when it is
//! unknown.

use std::net::SocketAddr;

use super::targets::{Targets, Well};
use crate::{
    Cause, Event, EventKind, FailedAttempt, Legacy, Link, Output, State, UnknownReason,
    reachability::{Reach, Reachability},
    time::Timestamp,
    unknown::MissingEvidence,
};

/// A fan-out as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Whole {
    reachability: Reachability,
    missing: MissingEvidence,
    /// The target with which the newest outage began.
    began_by: Option<SocketAddr>,
}

// === Getters ===

impl Whole {
    pub(super) fn has_ended(&self) -> bool {
        self.reachability.reach() == Reach::Ended
    }

    pub(super) fn state(&self, targets: &Targets) -> State {
        match self.reachability.reach() {
            Reach::Undecided if targets.is_empty() => State::Idle,
            Reach::Undecided => State::Starting,
            Reach::Reachable { since } => State::Reachable { since },
            Reach::Unreachable { since, onset } => State::Unreachable {
                since,
                cause: targets.worst().map_or(onset, |(_, cause)| cause),
            },
            Reach::Unknown { since, reason, .. } => State::Unknown { since, reason },
            Reach::Ended => State::Ended,
        }
    }

    /// Why it has never been reachable; `None` if it has.
    pub(super) fn never_reachable(&self, targets: &Targets) -> Option<Cause> {
        let cause = || targets.worst().map_or(Cause::Other, |(_, cause)| cause);
        (!self.reachability.was_reachable()).then(cause)
    }
}

// === From one agent to the next ===

impl Whole {
    pub(super) fn legacy(&self) -> Legacy {
        Legacy {
            outage: None,
            ..self.reachability.legacy(0)
        }
    }

    pub(super) fn inherit(&mut self, legacy: &Legacy) {
        if legacy.was_reachable {
            self.reachability.inherit_reachable();
        }
    }
}

// === Events of targets ===

impl Whole {
    pub(super) fn remember(&mut self, failed: FailedAttempt) {
        self.reachability.remember(failed);
    }

    /// The target at `peer` is not reachable, as `told`.
    pub(super) fn unreachable(
        &mut self,
        peer: SocketAddr,
        told: Event,
        cause: Cause,
        targets: &Targets,
        outputs: &mut Vec<Output>,
    ) {
        if self.reachability.begin_outage(told.at, cause) {
            self.began_by = Some(peer);
            let of_it = targets.get(peer).map(Link::errors_since_reachable);
            let before = targets.counts().total_errors() - of_it.unwrap_or_default();
            self.reachability.errors_begin(before);
            outputs.push(Output::Event(told));
        } else if self.began_by == Some(peer) && self.reachability.name_cause(cause) {
            outputs.push(Output::Event(told));
        }
    }

    /// A target is unknown, for `reason`.
    pub(super) fn unknown(
        &mut self,
        at: Timestamp,
        reason: UnknownReason,
        targets: &Targets,
        outputs: &mut Vec<Output>,
    ) {
        if targets.worst().is_none() {
            self.lose_sight(at, reason, outputs);
        }
    }

    /// A target is no longer failing or unknown. Updates the whole; `well` is a reachable target,
    /// if any.
    pub(super) fn settle(
        &mut self,
        at: Timestamp,
        well: Option<Well>,
        targets: &Targets,
        outputs: &mut Vec<Output>,
    ) {
        if targets.worst().is_some() {
            return;
        }
        match (targets.unknown(), well, self.reachability.reach()) {
            (Some(reason), ..) => self.lose_sight(at, reason, outputs),
            (None, Some(well), _) => self.recover(at, &well, targets, outputs),
            (None, None, Reach::Undecided) => {}
            (None, None, _) => self.rest(at, outputs),
        }
    }

    /// The process ends; nothing follows.
    pub(super) fn end(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        self.reachability.end();
        outputs.push(Output::event(at, EventKind::Ended));
    }

    /// No target is left.
    fn rest(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        match self.missing.reason() {
            Some(reason) => self.lose_sight(at, reason, outputs),
            None => {
                self.reachability.rest();
                outputs.push(Output::event(at, EventKind::Idle));
            }
        }
    }

    /// No target is failing, and one is `well`.
    fn recover(
        &mut self,
        at: Timestamp,
        well: &Well,
        targets: &Targets,
        outputs: &mut Vec<Output>,
    ) {
        let state = targets.get(well.target).map(Link::state);
        let since = (state != Some(State::Reachable { since: None })).then_some(at);
        let errors = targets.counts().total_errors();
        if let Some(recovery) = self.reachability.recover(since, at, errors) {
            let reachable = EventKind::Reachable {
                outage: recovery.outage,
                peer_address: well.peer_address,
            };
            outputs.push(Output::event(recovery.at, reachable));
        }
    }
}

// === Missing evidence ===

impl Whole {
    /// Why evidence about known targets may be missing. Connections from before the agent that
    /// cannot be listed concern other targets.
    pub(super) fn missing_of_targets(&self) -> Vec<UnknownReason> {
        let reasons = self.missing.reasons();
        reasons.filter(|reason| is_of_targets(*reason)).collect()
    }

    /// From `at` on, evidence may be missing. Returns whether to pass this on to the targets.
    pub(super) fn evidence_lost(
        &mut self,
        at: Timestamp,
        reason: UnknownReason,
        targets: &Targets,
        outputs: &mut Vec<Output>,
    ) -> bool {
        self.missing.lost(reason);
        if targets.is_empty() {
            self.lose_sight(at, reason, outputs);
        }
        is_of_targets(reason)
    }

    /// From `at` on, nothing is missing for this reason any more, and the targets know that.
    pub(super) fn evidence_back(
        &mut self,
        at: Timestamp,
        reason: UnknownReason,
        targets: &Targets,
        outputs: &mut Vec<Output>,
    ) {
        self.missing.back(reason);
        if matches!(self.reachability.reach(), Reach::Unknown { .. }) {
            self.settle(at, targets.well(), targets, outputs);
        }
    }

    /// From `at` on, the state of the whole is unknown.
    fn lose_sight(&mut self, at: Timestamp, reason: UnknownReason, outputs: &mut Vec<Output>) {
        if self.reachability.lose_sight(at, reason) {
            outputs.push(Output::event(at, EventKind::Unknown { reason }));
        }
    }
}

const fn is_of_targets(reason: UnknownReason) -> bool {
    match reason {
        UnknownReason::NotListed => false,
        UnknownReason::NoRoom
        | UnknownReason::EventsMissed
        | UnknownReason::Bypassed
        | UnknownReason::NotObserved => true,
    }
}
