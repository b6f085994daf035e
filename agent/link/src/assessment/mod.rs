//! The assessment of a link: from findings about its connections to counts, causes and
//! reachability.
//!
//! `consequences` turns findings into events, and `due` handles deadlines. `reachability` says how
//! outages begin and end, `blame` which cause is shown, `lookups` when lookups are the cause, and
//! `target` when a target is over.

mod consequences;
mod due;

use std::net::SocketAddr;

use crate::{
    Cause, CheckKind, ConnectionId, Counts, EventKind, Legacy, OutageUnderWay, Output, ProxyEvent,
    State, UnknownReason,
    blame::{Blame, Why},
    finding::Finding,
    lookups::Lookups,
    reachability::{Reach, Reachability},
    target::Target,
    time::Timestamp,
    timings::{LIVENESS, START_UP_GRACE},
    unknown::MissingEvidence,
};

/// What is known of the link as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Assessment {
    counts: Counts,
    reachability: Reachability,
    missing: MissingEvidence,
    /// Since when the agent has seen what the client does.
    sighted: Timestamp,
    /// Until then it need not be reachable, as long as nothing is decided.
    grace_ends: Timestamp,
    next_liveness: Timestamp,
    blame: Blame,
    /// The destination of the client's last dial.
    last_peer: Option<SocketAddr>,
    lookups: Lookups,
    /// The outage that the agent before this one left, until a look has shown whether it continues.
    inherited: Option<OutageUnderWay>,
    /// The rules of a target; `None` for a link that lasts as long as its process.
    target: Option<Target>,
}

/// What is due on a link. At the same moment, consequences for the link come first, and the check
/// of the result last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Name lookups without an attempt become the cause.
    Dns,
    /// A target that is no longer dialled is over.
    GivenUp,
    /// The start-up grace ends.
    Grace,
    /// The lack of attempts becomes the cause.
    NoAttempt,
    /// The liveness check.
    Liveness,
}

// === Inputs ===

impl Assessment {
    /// An assessment that knows nothing yet, as of `at`.
    pub(crate) fn new(at: Timestamp, target: Option<Target>) -> Self {
        Self {
            counts: Counts::default(),
            reachability: Reachability::default(),
            missing: MissingEvidence::default(),
            sighted: at,
            grace_ends: at + START_UP_GRACE,
            next_liveness: at + LIVENESS,
            blame: Blame::default(),
            last_peer: None,
            lookups: Lookups::default(),
            inherited: None,
            target,
        }
    }

    /// Applies a finding about a connection.
    pub(crate) fn take(&mut self, finding: Finding, outputs: &mut Vec<Output>) {
        match finding {
            Finding::Dialled(peer) => self.last_peer = Some(peer),
            Finding::Upgraded { of, upgrade } => self.upgraded(of, upgrade, outputs),
            Finding::StillStalled => self.take_up_inherited(outputs),
            Finding::Healed { of, at } => self.recover(Some(at), at, of.peer, outputs),
            Finding::AttemptFailed {
                of,
                at,
                cause,
                errno,
            } => self.attempt_failed(of, at, cause, errno, outputs),
            Finding::Lost {
                of,
                at,
                cause,
                other,
            } => self.lost(of, at, cause, other, outputs),
            Finding::EndedUnseen {
                at,
                phase,
                how,
                number,
            } => self.ended_unseen(at, phase, how, number, outputs),
            Finding::LostRace => self.counts.lose_race(),
            Finding::LetGo { at } => self.let_go(at, outputs),
            Finding::Withdrawn { at } => self.end(at, outputs),
        }
    }

    /// A proxy's connection reported this event.
    pub(crate) fn proxy(
        &mut self,
        at: Timestamp,
        connection: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        event: ProxyEvent,
    ) {
        self.blame.proxy(at, connection, peer, attempted, event);
    }

    /// A name server was asked at `at`.
    pub(crate) fn looked_up(&mut self, at: Timestamp, last_activity: Timestamp) {
        self.lookups.looked_up(at, last_activity);
    }

    /// Another target of the same client answered at `at`.
    pub(crate) fn answered_elsewhere(&mut self, at: Timestamp) {
        if let Some(target) = &mut self.target {
            target.answered_elsewhere(at);
        }
    }

    /// Attempts may have been missed, so the length of the client's pauses is not known.
    pub(crate) fn lose_track(&mut self) {
        self.lookups.judged();
    }

    /// From `at` on, evidence may be missing.
    pub(crate) fn evidence_lost(
        &mut self,
        at: Timestamp,
        reason: UnknownReason,
        outputs: &mut Vec<Output>,
    ) {
        self.missing.lost(reason);
        match self.reachability.reach() {
            Reach::Undecided | Reach::Unreachable { .. } | Reach::Unknown { .. } => {
                self.lose_sight(at, outputs);
            }
            // A live connection is evidence enough.
            Reach::Reachable { .. } | Reach::Ended => {}
        }
    }

    /// From `at` on, nothing is missing for this reason any more. The client was not seen
    /// meanwhile, so it gets the same grace as at its discovery.
    pub(crate) fn evidence_back(
        &mut self,
        at: Timestamp,
        reason: UnknownReason,
        outputs: &mut Vec<Output>,
    ) {
        self.missing.back(reason);
        if self.missing.reason().is_some() {
            self.lose_sight(at, outputs);
            return;
        }
        if !matches!(self.reachability.reach(), Reach::Unknown { .. }) {
            return;
        }
        self.sighted = at;
        self.grace_ends = at + START_UP_GRACE;
        self.lose_track();
        if self.reachability.regain_sight().is_some() {
            outputs.push(self.unreachable(at, self.blame.why(), self.last_peer));
        }
    }

    /// The pod's last life was never reachable, for `cause`.
    pub(crate) fn follows_unreached(
        &mut self,
        at: Timestamp,
        cause: Cause,
        outputs: &mut Vec<Output>,
    ) {
        if self.reachability.reach() == Reach::Undecided {
            self.put_blame(at, cause.into(), outputs);
            // Each outage has an error at its onset.
            self.counts.fail(CheckKind::Liveness, cause, 1);
            self.begin_outage(at, self.blame.why(), self.last_peer, outputs);
        }
    }

    /// The agent before this one left this about the link. It is no evidence of the present state.
    pub(crate) fn inherit(&mut self, legacy: Legacy) {
        if legacy.was_reachable {
            self.reachability.inherit_reachable();
        }
        if let Some(outage) = legacy.outage {
            self.blame.put_on(outage.since, outage.cause.into());
            // Oldest first: the newest one is shown.
            for failed in &outage.attempts {
                let why = Why {
                    cause: failed.cause,
                    proxy: failed.proxy_address,
                };
                self.blame.put_on(failed.at, why);
            }
            self.inherited = Some(outage);
        }
    }

    /// The link ends; nothing follows.
    pub(crate) fn end(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        self.reachability.end();
        outputs.push(Output::event(at, EventKind::Ended));
    }
}

// === Getters ===

impl Assessment {
    pub(crate) fn has_ended(&self) -> bool {
        self.reachability.reach() == Reach::Ended
    }

    pub(crate) fn state(&self) -> State {
        match self.reachability.reach() {
            Reach::Undecided => State::Starting,
            Reach::Reachable { since } => State::Reachable { since },
            Reach::Unreachable { since, .. } => State::Unreachable {
                since,
                cause: self.cause(),
            },
            Reach::Unknown { since, reason, .. } => State::Unknown { since, reason },
            Reach::Ended => State::Ended,
        }
    }

    /// Why it has never been reachable; `None` if it has.
    pub(crate) fn never_reachable(&self) -> Option<Cause> {
        (!self.reachability.was_reachable()).then(|| self.cause())
    }

    /// What a successor of the agent needs to know.
    pub(crate) fn legacy(&self) -> Legacy {
        let own = self.reachability.legacy(self.counts.total_errors());
        // The agent has not looked for long enough to decide, so it leaves the inherited outage to
        // the next one.
        let inherited = self.inherited.clone().map(|outage| OutageUnderWay {
            errors: outage.errors.saturating_add(self.counts.total_errors()),
            ..outage
        });
        Legacy {
            outage: own.outage.or(inherited),
            ..own
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The destination of the client's last dial.
    pub(crate) fn last_peer(&self) -> Option<SocketAddr> {
        self.last_peer
    }

    /// Errors since the link was reachable, or since its discovery.
    pub(crate) fn errors_since_reachable(&self) -> u64 {
        self.reachability.errors_since(self.counts.total_errors())
    }

    /// What ended the last live connection or the last attempt, whichever is newer.
    fn cause(&self) -> Cause {
        self.blame.why().cause
    }
}
