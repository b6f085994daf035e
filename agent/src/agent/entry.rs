//! One link with what the shell keeps beside it, and the translations at its border.

use std::time::Duration;

use statlink_ebpf::{End, Phase, Record, RecordKind, Source};

use crate::{
    clock,
    kernel::{Ends, Inventory, connection_id, peer},
    link::{
        Cause, Fact, FailedAttempt, HopEvent, Machine, Missed, OpenConnection, Outage, Outcome,
        Status,
    },
    report::{Attempt, EndedOutage, LinkName, What},
    snapshot::LinkSnapshot,
    telemetry::logs::{self, Story},
    time::Timestamp,
};

/// One link.
pub(super) struct Entry {
    pub(super) name: LinkName,
    pub(super) source: Source,
    pub(super) pod_uid: Option<String>,
    pub(super) link: Box<dyn Machine>,
    /// The cause last exported at once: an outage's attempts mostly fail alike.
    told: Option<Cause>,
    story: Story,
    /// The ends that no record told and that the link has been handed.
    reconciled: Ends,
    resync: Option<Timestamp>,
    /// A program may have been at work on a stranger's totals when the source was asked for.
    late_resync: Option<Timestamp>,
}

impl Entry {
    pub(super) fn new(
        name: LinkName,
        source: Source,
        pod_uid: Option<String>,
        link: Box<dyn Machine>,
        now: Timestamp,
    ) -> Self {
        Self {
            name,
            source,
            pod_uid,
            link,
            told: None,
            story: Story::default(),
            reconciled: Ends::default(),
            resync: Some(now),
            late_resync: Some(now + LATE),
        }
    }

    /// Whether `what` is to be exported at once: a transition, or the first failure of its kind.
    pub(super) fn is_news(&mut self, what: &What) -> bool {
        let told = match what {
            What::Discovered | What::Reachable { .. } | What::Idle | What::Ended => None,
            What::Unreachable { cause, .. } => Some(*cause),
            What::ConnectFailed(attempt) if self.told != Some(attempt.cause) => Some(attempt.cause),
            What::Connected { .. } | What::ConnectFailed(_) | What::Disconnected { .. } => {
                return false;
            }
        };
        self.told = told;
        true
    }

    /// Logs what is to be logged of `what`.
    pub(super) fn log(&mut self, now: Timestamp, what: &What) {
        for line in self.story.take(now, what) {
            logs::log(&self.name, &line);
        }
    }

    /// Logs what is due by `now`.
    pub(super) fn log_due(&mut self, now: Timestamp) {
        if let Some(line) = self.story.on_deadline(now) {
            logs::log(&self.name, &line);
        }
    }

    /// Logs what was left unsaid.
    pub(super) fn log_rest(&mut self, now: Timestamp) {
        for line in self.story.close(now) {
            logs::log(&self.name, &line);
        }
    }

    /// Asks for a reconciliation at `at`, or earlier if one is due earlier.
    pub(super) fn resync_at(&mut self, at: Timestamp) {
        self.resync = Some(self.resync.map_or(at, |due| due.min(at)));
    }

    pub(super) fn resync_due(&self, now: Timestamp) -> bool {
        self.next_resync().is_some_and(|due| due <= now)
    }

    fn next_resync(&self) -> Option<Timestamp> {
        self.resync.into_iter().chain(self.late_resync).min()
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.link
            .next_deadline()
            .into_iter()
            .chain(self.next_resync())
            .chain(self.story.next_deadline())
            .min()
    }

    /// What the link has not been told of `inventory`.
    pub(super) fn reconcile(&mut self, inventory: &Inventory) -> Fact {
        self.resync = None;
        if self.late_resync.is_some_and(|due| due <= inventory.at) {
            self.late_resync = None;
        }
        let mut missed = Ends::default();
        let cells = missed.iter_mut().flatten();
        let known = self.reconciled.iter_mut().flatten();
        for ((missed, known), total) in cells.zip(known).zip(inventory.missed.iter().flatten()) {
            *missed = total.saturating_sub(*known);
            *known = *total;
        }
        let open = inventory
            .open
            .iter()
            .filter_map(|(sock, connection)| {
                Some(OpenConnection {
                    connection: connection_id(*sock, connection.born_ns),
                    peer: peer(connection.peer, connection.peer_port),
                    attempted: attempted(connection.attempted_ns),
                    phase: Phase::from_raw(connection.phase)?,
                })
            })
            .collect();
        Fact::Resynchronised {
            open,
            missed: Missed::new(missed),
        }
    }

    pub(super) fn snapshot(&self, id: u64, now: Timestamp, retransmits: u64) -> LinkSnapshot {
        let ago = |at| now.saturating_since(at);
        let (reachable, since, cause) = match self.link.status() {
            Status::Idle | Status::Starting | Status::Ended => (None, None, None),
            Status::Reachable { since } => (Some(true), since.map(ago), None),
            Status::Unreachable { since, cause } => (Some(false), Some(ago(since)), Some(cause)),
        };
        LinkSnapshot {
            idle: self.link.status() == Status::Idle,
            id,
            peer: self.name.peer.clone(),
            namespace: self.name.namespace.clone(),
            pod: self.name.pod.clone(),
            pid: self.name.pid,
            reachable,
            since,
            cause,
            peer_address: self.link.peer_address(),
            rtt: self.link.rtt(),
            silence: self.link.heard().map(ago),
            counts: self.link.counts(),
            retransmits,
        }
    }
}

/// The fact that a record tells; `None` if it is none that this agent knows.
pub(super) fn fact(record: &Record, kind: RecordKind, heard: Option<Timestamp>) -> Option<Fact> {
    let connection = connection_id(record.sock, record.born_ns);
    let peer = peer(record.peer, record.peer_port);
    let attempted = attempted(record.attempted_ns);
    Some(match kind {
        RecordKind::Attempted => Fact::Attempted { connection, peer },
        RecordKind::Established => Fact::Established {
            connection,
            peer,
            attempted,
        },
        RecordKind::RetransmissionTimeout => Fact::RetransmissionTimeout {
            connection,
            timeouts: record.timeouts,
        },
        RecordKind::Ended => Fact::Ended {
            connection,
            peer,
            attempted,
            phase: Phase::from_raw(record.phase)?,
            how: End::from_raw(record.end)?,
            errno: record.errno,
            heard,
        },
        RecordKind::LookedUp => Fact::LookedUp,
        RecordKind::Executed => return None,
    })
}

/// The fact that a record of another process in an activator's network namespace tells.
pub(super) fn hop(record: &Record, kind: RecordKind) -> Option<Fact> {
    let event = match kind {
        RecordKind::Attempted => HopEvent::Attempted,
        RecordKind::Established => HopEvent::Established,
        RecordKind::RetransmissionTimeout => HopEvent::Stalled,
        RecordKind::Ended => HopEvent::Ended {
            phase: Phase::from_raw(record.phase)?,
            how: End::from_raw(record.end)?,
        },
        RecordKind::Executed | RecordKind::LookedUp => return None,
    };
    Some(Fact::Hop {
        connection: connection_id(record.sock, record.born_ns),
        peer: peer(record.peer, record.peer_port),
        event,
    })
}

/// What is told of an outcome, and when it happened.
pub(super) fn report(outcome: &Outcome) -> Option<(Timestamp, What)> {
    Some(match outcome {
        Outcome::Sample(_) => return None,
        Outcome::Connected { at, peer, duration } => (
            *at,
            What::Connected {
                peer_address: *peer,
                duration: duration.as_ref().map(Duration::as_secs_f64),
            },
        ),
        Outcome::ConnectFailed(failed) => (failed.at, What::ConnectFailed(attempt(failed))),
        Outcome::Disconnected {
            at,
            peer,
            cause,
            hop,
        } => (
            *at,
            What::Disconnected {
                peer_address: *peer,
                cause: *cause,
                hop_address: *hop,
            },
        ),
        Outcome::Unreachable {
            at,
            cause,
            peer,
            hop,
            attempts,
        } => (
            *at,
            What::Unreachable {
                cause: *cause,
                peer_address: *peer,
                hop_address: *hop,
                attempts: attempts.iter().map(attempt).collect(),
            },
        ),
        Outcome::Reachable { at, peer, outage } => (
            *at,
            What::Reachable {
                outage: outage.as_ref().map(ended),
                peer_address: *peer,
            },
        ),
        Outcome::Idle { at } => (*at, What::Idle),
        Outcome::Ended { at } => (*at, What::Ended),
    })
}

fn ended(outage: &Outage) -> EndedOutage {
    EndedOutage {
        duration: outage.length.as_secs_f64(),
        cause: outage.cause,
        errors: outage.errors,
        attempts: outage.attempts.iter().map(attempt).collect(),
    }
}

fn attempt(failed: &FailedAttempt) -> Attempt {
    Attempt {
        at: clock::wall(failed.at),
        peer_address: failed.peer,
        cause: failed.cause,
        hop_address: failed.hop,
        errno: failed.errno,
        duration: failed.duration.as_ref().map(Duration::as_secs_f64),
    }
}

fn attempted(nanoseconds: u64) -> Option<Timestamp> {
    (nanoseconds != 0).then(|| Timestamp::from_nanos(nanoseconds))
}

/// Long after any program that was at work at discovery.
const LATE: Duration = Duration::from_secs(1);
