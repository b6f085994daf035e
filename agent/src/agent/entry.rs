//! One link with what the shell keeps beside it, and the translations at its border.

use std::time::Duration;

use statlink_ebpf::{End, Phase, Record, RecordKind, Source};

use crate::{
    kernel::{Ends, Inventory, connection_id, peer},
    link::{Cause, Input, LinkMachine, MissedEnds, OpenConnection, ProxyEvent},
    report::{EventKind, LinkName},
    snapshot::LinkSnapshot,
    telemetry::logs::{self, Story},
    time::Timestamp,
};

/// One link.
pub(super) struct Entry {
    pub(super) name: LinkName,
    pub(super) source: Source,
    pub(super) pod_uid: Option<String>,
    pub(super) link: Box<dyn LinkMachine>,
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
        link: Box<dyn LinkMachine>,
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

    /// Whether it is to be exported at once: a transition, or the first failure of its kind.
    pub(super) fn is_news(&mut self, kind: &EventKind) -> bool {
        let told = match kind {
            EventKind::Discovered
            | EventKind::Reachable { .. }
            | EventKind::Idle
            | EventKind::Ended => None,
            EventKind::Unreachable { cause, .. } => Some(*cause),
            EventKind::ConnectFailed(attempt) if self.told != Some(attempt.cause) => {
                Some(attempt.cause)
            }
            EventKind::Connected { .. }
            | EventKind::ConnectFailed(_)
            | EventKind::Disconnected { .. } => {
                return false;
            }
        };
        self.told = told;
        true
    }

    /// Logs what is to be logged of `kind`.
    pub(super) fn log(&mut self, now: Timestamp, kind: &EventKind) {
        for line in self.story.take(now, kind) {
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

    /// EventKind the link has not been told of `inventory`.
    pub(super) fn reconcile(&mut self, inventory: &Inventory) -> Input {
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
                    peer_address: peer(connection.peer, connection.peer_port),
                    attempted: attempted(connection.attempted_ns),
                    phase: Phase::from_raw(connection.phase)?,
                })
            })
            .collect();
        Input::Resynchronised {
            open,
            missed: MissedEnds::new(missed),
        }
    }

    pub(super) fn snapshot(&self, id: u64, now: Timestamp, retransmits: u64) -> LinkSnapshot {
        let ago = |at| now.saturating_since(at);
        LinkSnapshot {
            id,
            peer: self.name.peer.clone(),
            namespace: self.name.namespace.clone(),
            pod: self.name.pod.clone(),
            pid: self.name.pid,
            state: self.link.state().map_time(ago),
            peer_address: self.link.peer_address(),
            rtt: self.link.rtt(),
            silence: self.link.heard().map(ago),
            counts: self.link.counts(),
            retransmits,
        }
    }
}

/// What a record tells a link; `None` if it is of a kind that this agent does not know.
pub(super) fn input(record: &Record, kind: RecordKind, heard: Option<Timestamp>) -> Option<Input> {
    let connection = connection_id(record.sock, record.born_ns);
    let peer = peer(record.peer, record.peer_port);
    let attempted = attempted(record.attempted_ns);
    Some(match kind {
        RecordKind::Attempted => Input::Attempted {
            connection,
            peer_address: peer,
        },
        RecordKind::Established => Input::Established {
            connection,
            peer_address: peer,
            attempted,
        },
        RecordKind::RetransmissionTimeout => Input::RetransmissionTimeout {
            connection,
            timeouts: record.timeouts,
        },
        RecordKind::Ended => Input::Ended {
            connection,
            peer_address: peer,
            attempted,
            phase: Phase::from_raw(record.phase)?,
            how: End::from_raw(record.end)?,
            errno: record.errno,
            heard,
        },
        RecordKind::LookedUp => Input::LookedUp,
        RecordKind::Executed => return None,
    })
}

/// What a record of another process in an activator's network namespace tells a link.
pub(super) fn proxy(record: &Record, kind: RecordKind) -> Option<Input> {
    let event = match kind {
        RecordKind::Attempted => ProxyEvent::Attempted,
        RecordKind::Established => ProxyEvent::Established,
        RecordKind::RetransmissionTimeout => ProxyEvent::Stalled,
        RecordKind::Ended => ProxyEvent::Ended {
            phase: Phase::from_raw(record.phase)?,
            how: End::from_raw(record.end)?,
        },
        RecordKind::Executed | RecordKind::LookedUp => return None,
    };
    Some(Input::Proxy {
        connection: connection_id(record.sock, record.born_ns),
        peer_address: peer(record.peer, record.peer_port),
        event,
    })
}

fn attempted(nanoseconds: u64) -> Option<Timestamp> {
    (nanoseconds != 0).then(|| Timestamp::from_nanos(nanoseconds))
}

/// Long after any program that was at work at discovery.
const LATE: Duration = Duration::from_secs(1);
