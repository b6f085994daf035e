//! What a link makes of what is certain about its connections: what it counts, what it blames, and
//! when it is reachable.
//!
//! Findings become events here. How outages begin and end is in `reachability`, which cause is
//! shown in `blame`, when lookups are the cause in `lookups`, when a target is over in `target`.

use std::net::SocketAddr;

use statlink_ebpf::{End, Phase};

use crate::{
    Cause, CheckKind, ConnectionId, Counts, EventKind, FailedAttempt, Output, ProxyEvent, State,
    UnknownReason,
    blame::{Blame, Why},
    connection::Upgrade,
    finding::{Facts, Finding, Live},
    limits::HISTORY_REPORTED,
    lookups::Lookups,
    reachability::{Reach, Reachability},
    target::Target,
    time::Timestamp,
    timings::{LIVENESS, NO_ATTEMPT, START_UP_GRACE},
    unknown::MissingEvidence,
};

/// What is known of the link as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Assessment {
    counts: Counts,
    reachability: Reachability,
    missing: MissingEvidence,
    /// Since when the agent sees what the client does.
    sighted: Timestamp,
    /// Until when it need not be reachable, while nothing is decided.
    grace_ends: Timestamp,
    next_liveness: Timestamp,
    blame: Blame,
    /// Where the client turned to last.
    last_peer: Option<SocketAddr>,
    lookups: Lookups,
    /// What makes it a target; `None` for a link that lasts as long as its process.
    target: Option<Target>,
}

/// What falls due on a link by itself. At the same moment: what follows for the link, and last the
/// check of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Name lookups that no attempt followed are the cause.
    Dns,
    /// A target that is not dialled any more is over.
    GivenUp,
    /// The start-up grace ends.
    Grace,
    /// The lack of attempts is the cause.
    NoAttempt,
    /// The liveness check.
    Liveness,
}

// === What it takes in ===

impl Assessment {
    /// Nothing is known yet, as of `at`.
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
            target,
        }
    }

    /// This is certain about a connection.
    pub(crate) fn take(&mut self, finding: Finding, outputs: &mut Vec<Output>) {
        match finding {
            Finding::Dialled(peer) => self.last_peer = Some(peer),
            Finding::Upgraded { of, upgrade } => self.upgraded(of, upgrade, outputs),
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

    /// A proxy's connection has come to this.
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

    /// Attempts may have gone unseen, so how long the client pauses is not known.
    pub(crate) fn lose_track(&mut self) {
        self.lookups.judged();
    }

    /// From `at` on evidence may be missing.
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

    /// From `at` on nothing is missing any more for this reason. What was not seen of the client
    /// meanwhile leaves it the time that it has at its discovery.
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

    /// Nothing follows.
    pub(crate) fn end(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        self.reachability.end();
        outputs.push(Output::event(at, EventKind::Ended));
    }
}

// === What it is ===

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

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Where the client turned to last.
    pub(crate) fn last_peer(&self) -> Option<SocketAddr> {
        self.last_peer
    }

    /// Errors since it was reachable, or since its beginning.
    pub(crate) fn errors_since_reachable(&self) -> u64 {
        self.reachability.errors_since(self.counts.total_errors())
    }

    /// What ended the last live connection or the last attempt, whichever is newer.
    fn cause(&self) -> Cause {
        self.blame.why().cause
    }
}

// === What falls due ===

impl Assessment {
    /// What falls due next, where there is no connection and no attempt since `quiet`: a link that
    /// is quiet is not reachable. While it is unknown whether it is quiet, nothing follows from it.
    pub(crate) fn next_due(&self, quiet: Option<Timestamp>) -> Option<(Timestamp, Timer)> {
        let quiet = match self.reachability.reach() {
            Reach::Unknown { .. } => None,
            Reach::Undecided | Reach::Reachable { .. } | Reach::Unreachable { .. } => {
                quiet.map(|quiet| quiet.max(self.sighted))
            }
            Reach::Ended => return None,
        };
        let dns = quiet.and_then(|quiet| Some((self.dns_due(quiet)?, Timer::Dns)));
        let given_up = quiet.and_then(|quiet| {
            let pause = self.lookups.pause();
            let due = self.target.as_ref()?.given_up_due(quiet, pause);
            Some((due, Timer::GivenUp))
        });
        let of_state = match self.reachability.reach() {
            Reach::Undecided => Some((self.grace_ends, Timer::Grace)),
            Reach::Unreachable { .. } => {
                quiet.and_then(|quiet| Some((self.no_attempt_due(quiet)?, Timer::NoAttempt)))
            }
            Reach::Reachable { .. } | Reach::Unknown { .. } | Reach::Ended => None,
        };
        let liveness = (self.next_liveness, Timer::Liveness);
        let others = dns.into_iter().chain(given_up).chain(of_state);
        Some(others.fold(liveness, Ord::min))
    }

    /// Does what fell due at `due`, by `now`.
    pub(crate) fn fire(
        &mut self,
        timer: Timer,
        due: Timestamp,
        now: Timestamp,
        outputs: &mut Vec<Output>,
    ) {
        match timer {
            Timer::Dns => {
                self.lookups.judged();
                self.put_blame(due, Cause::Dns.into(), outputs);
            }
            Timer::GivenUp => self.end(due, outputs),
            Timer::Grace => {
                self.begin_outage(due, self.blame.why(), self.last_peer, outputs);
                // Each outage has an error at its onset.
                self.next_liveness = due;
            }
            Timer::NoAttempt => {
                self.lookups.judged();
                self.put_blame(due, Cause::NoAttempt.into(), outputs);
            }
            Timer::Liveness => {
                match self.reachability.reach() {
                    Reach::Reachable { .. } => self.counts.pass(CheckKind::Liveness, 1),
                    Reach::Unreachable { .. } => {
                        let cause = self.cause();
                        self.counts.fail(CheckKind::Liveness, cause, 1);
                    }
                    // What is not decided, or nobody can tell, is not checked.
                    Reach::Undecided | Reach::Unknown { .. } | Reach::Ended => {}
                }
                self.next_liveness = due.next_on_grid(LIVENESS, now);
            }
        }
    }

    /// When the name lookups that no attempt follows are the cause.
    fn dns_due(&self, quiet: Timestamp) -> Option<Timestamp> {
        if self.cause() == Cause::Dns {
            return None;
        }
        self.lookups.due(quiet)
    }

    /// When the lack of attempts is the cause, where it is not blamed for it yet. A target that is
    /// not dialled is over instead.
    fn no_attempt_due(&self, quiet: Timestamp) -> Option<Timestamp> {
        if self.target.is_some() {
            return None;
        }
        match self.cause() {
            Cause::Dns => Some(self.lookups.stopped_due(quiet)),
            Cause::NoAttempt => None,
            Cause::ConnectionRefused
            | Cause::Timeout
            | Cause::Cancelled
            | Cause::HostUnreachable
            | Cause::NetworkUnreachable
            | Cause::PermissionDenied
            | Cause::AddressUnavailable
            | Cause::ConnectionReset
            | Cause::ConnectionAborted
            | Cause::HandshakeFailed
            | Cause::PeerClosed
            | Cause::LocalClosed
            | Cause::Stalled
            | Cause::LocalStalled
            | Cause::WrongPeer
            | Cause::Other => Some(quiet + NO_ATTEMPT),
        }
    }
}

// === What follows from a finding ===

impl Assessment {
    fn upgraded(&mut self, of: Facts, upgrade: Upgrade, outputs: &mut Vec<Output>) {
        let Upgrade {
            answered,
            since,
            heard,
            had_failed,
        } = upgrade;
        if of.counts_connect {
            if !had_failed {
                self.counts.pass(CheckKind::Connect, 1);
            }
            self.counts.connect(1);
            let connected = EventKind::Connected {
                peer_address: of.peer,
                duration: of.duration(answered).filter(|_| !had_failed),
            };
            outputs.push(Output::event(answered, connected));
        }
        // Older than the agent? If that is news in an outage, its last data ends it.
        let at = since.unwrap_or(heard);
        self.recover(since, at, of.peer, outputs);
    }

    fn attempt_failed(
        &mut self,
        of: Facts,
        at: Timestamp,
        cause: Cause,
        errno: Option<u16>,
        outputs: &mut Vec<Output>,
    ) {
        let why = self.blame.explain(of, at, cause);
        let failed = FailedAttempt {
            at,
            peer_address: Some(of.peer),
            cause: why.cause,
            proxy_address: why.proxy,
            errno,
            duration: of.duration(at),
        };
        // An attempt from before the agent explains, but is not the agent's to count.
        if of.counts_connect {
            self.counts.fail(CheckKind::Connect, why.cause, 1);
            outputs.push(Output::event(at, EventKind::ConnectFailed(failed)));
        }
        self.reachability.remember(failed);
        self.lookups.failed(1);
        self.put_blame(at, why, outputs);
    }

    fn lost(
        &mut self,
        of: Facts,
        at: Timestamp,
        cause: Cause,
        other: Option<Live>,
        outputs: &mut Vec<Output>,
    ) {
        let why = self.blame.explain(of, at, cause);
        if matches!(self.reachability.reach(), Reach::Reachable { .. }) {
            self.reachability.errors_begin(self.counts.total_errors());
        }
        self.counts.fail(CheckKind::Disconnect, why.cause, 1);
        let disconnected = EventKind::Disconnected {
            peer_address: of.peer,
            cause: why.cause,
            proxy_address: why.proxy,
        };
        outputs.push(Output::event(at, disconnected));
        self.put_blame(at, why, outputs);
        match other {
            None => self.begin_outage(at, why, Some(of.peer), outputs),
            Some(Live {
                since: Some(since),
                peer,
            }) if since > at => {
                self.begin_outage(at, why, Some(of.peer), outputs);
                self.recover(Some(since), since, peer, outputs);
            }
            Some(_) => {}
        }
    }

    /// Counts ends of connections of which nothing else is known. They change no outage: how
    /// long such a connection was live, nobody can tell.
    fn ended_unseen(
        &mut self,
        at: Timestamp,
        phase: Phase,
        how: End,
        number: u32,
        outputs: &mut Vec<Output>,
    ) {
        let cause = Cause::of_end(phase, how);
        let times = u64::from(number);
        match phase {
            Phase::Held => {
                self.counts.pass(CheckKind::Connect, times);
                self.counts.connect(times);
                self.counts.fail(CheckKind::Disconnect, cause, times);
            }
            Phase::Connecting | Phase::Established => {
                self.counts.fail(CheckKind::Connect, cause, times);
                self.lookups.failed(number);
                let failed = FailedAttempt {
                    at,
                    peer_address: None,
                    cause,
                    proxy_address: None,
                    errno: None,
                    duration: None,
                };
                for _ in 0..number.min(HISTORY_REPORTED) {
                    self.reachability.remember(failed);
                    outputs.push(Output::event(at, EventKind::ConnectFailed(failed)));
                }
            }
        }
        self.put_blame(at, cause.into(), outputs);
    }

    /// The client let go of its live connection at `at`, and dials anew: as a target that is new.
    fn let_go(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        if matches!(self.reachability.reach(), Reach::Reachable { .. }) {
            self.reachability.rest();
            self.grace_ends = at + START_UP_GRACE;
            outputs.push(Output::event(at, EventKind::Idle));
        }
    }

    fn begin_outage(
        &mut self,
        at: Timestamp,
        why: Why,
        peer_address: Option<SocketAddr>,
        outputs: &mut Vec<Output>,
    ) {
        if self.missing.reason().is_some() {
            // There may be another connection, of which nothing is known.
            self.lose_sight(at, outputs);
        } else if self.reachability.begin_outage(at, why.cause) {
            outputs.push(self.unreachable(at, why, peer_address));
        }
    }

    /// It cannot be told any more, since `at`, what the link is.
    fn lose_sight(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        if let Some(reason) = self.missing.reason()
            && self.reachability.lose_sight(at, reason)
        {
            outputs.push(Output::event(at, EventKind::Unknown { reason }));
        }
    }

    /// There is a live connection `since`; if that is longer than known, since `at`.
    fn recover(
        &mut self,
        since: Option<Timestamp>,
        at: Timestamp,
        peer_address: SocketAddr,
        outputs: &mut Vec<Output>,
    ) {
        let errors = self.counts.total_errors();
        let Some(recovery) = self.reachability.recover(since, at, errors) else {
            return;
        };
        self.lookups.reachable();
        if let Some(target) = &mut self.target {
            target.was_live();
        }
        let reachable = EventKind::Reachable {
            outage: recovery.outage,
            peer_address,
        };
        outputs.push(Output::event(recovery.at, reachable));
    }

    /// Something at `at` tells why the link is, or would be, unreachable.
    fn put_blame(&mut self, at: Timestamp, why: Why, outputs: &mut Vec<Output>) {
        if self.blame.put_on(at, why) && self.reachability.name_cause(why.cause) {
            outputs.push(self.unreachable(at, why, self.last_peer));
        }
    }

    fn unreachable(&self, at: Timestamp, why: Why, peer_address: Option<SocketAddr>) -> Output {
        let unreachable = EventKind::Unreachable {
            cause: why.cause,
            peer_address,
            proxy_address: why.proxy,
            attempts: self.reachability.attempts(),
        };
        Output::event(at, unreachable)
    }
}
