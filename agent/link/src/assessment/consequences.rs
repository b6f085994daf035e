//! What follows from a finding: counts, events, and the begin or end of an outage.

use std::net::SocketAddr;

use statlink_ebpf::{End, Phase};

use super::Assessment;
use crate::{
    Cause, CheckKind, EventKind, FailedAttempt, Output,
    blame::Why,
    connection::Upgrade,
    finding::{Facts, Live},
    limits::HISTORY_REPORTED,
    reachability::Reach,
    time::Timestamp,
    timings::START_UP_GRACE,
};

impl Assessment {
    pub(super) fn upgraded(&mut self, of: Facts, upgrade: Upgrade, outputs: &mut Vec<Output>) {
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
        // A connection that is older than the agent: if this ends an outage, the outage ends with
        // its last data.
        let at = since.unwrap_or(heard);
        self.recover(since, at, of.peer, outputs);
    }

    pub(super) fn attempt_failed(
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

    pub(super) fn lost(
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

    /// The inherited outage continues. The agent before this one counted and reported its onset.
    pub(super) fn take_up_inherited(&mut self, outputs: &mut Vec<Output>) {
        if let Some(outage) = self.inherited.take()
            && self.reachability.inherit_outage(outage)
        {
            outputs.push(Output::OutageGoesOn);
        }
    }

    /// Counts ends of connections of which nothing else is known. They change no outage, because
    /// nobody knows how long such a connection was live.
    pub(super) fn ended_unseen(
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

    /// The client closed its live connection at `at` and dials again, like a new target.
    pub(super) fn let_go(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        if matches!(self.reachability.reach(), Reach::Reachable { .. }) {
            self.reachability.rest();
            self.grace_ends = at + START_UP_GRACE;
            outputs.push(Output::event(at, EventKind::Idle));
        }
    }

    pub(super) fn begin_outage(
        &mut self,
        at: Timestamp,
        why: Why,
        peer_address: Option<SocketAddr>,
        outputs: &mut Vec<Output>,
    ) {
        if self.missing.reason().is_some() {
            // There may be another connection that nobody knows of.
            self.lose_sight(at, outputs);
        } else if self.reachability.begin_outage(at, why.cause) {
            outputs.push(self.unreachable(at, why, peer_address));
        }
    }

    /// From `at` on, the link's state is unknown.
    pub(super) fn lose_sight(&mut self, at: Timestamp, outputs: &mut Vec<Output>) {
        if let Some(reason) = self.missing.reason()
            && self.reachability.lose_sight(at, reason)
        {
            outputs.push(Output::event(at, EventKind::Unknown { reason }));
        }
    }

    /// A connection has been live since `since`; `None` means longer than known, and then `at`
    /// counts.
    pub(super) fn recover(
        &mut self,
        since: Option<Timestamp>,
        at: Timestamp,
        peer_address: SocketAddr,
        outputs: &mut Vec<Output>,
    ) {
        // The outage is reported at its end, with its whole length.
        if let Some(outage) = self.inherited.take() {
            self.reachability.inherit_outage(outage);
        }
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

    /// At `at`, something explains why the link is, or would be, unreachable.
    pub(super) fn put_blame(&mut self, at: Timestamp, why: Why, outputs: &mut Vec<Output>) {
        if self.blame.put_on(at, why) && self.reachability.name_cause(why.cause) {
            outputs.push(self.unreachable(at, why, self.last_peer));
        }
    }

    pub(super) fn unreachable(
        &self,
        at: Timestamp,
        why: Why,
        peer_address: Option<SocketAddr>,
    ) -> Output {
        let unreachable = EventKind::Unreachable {
            cause: why.cause,
            peer_address,
            proxy_address: why.proxy,
            attempts: self.reachability.attempts(),
        };
        Output::event(at, unreachable)
    }
}
