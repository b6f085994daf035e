//! What happens to an event: it is logged, recorded, sent to listeners, and exported at once.

use std::sync::Arc;

use tokio::sync::{Notify, broadcast};

use crate::{
    clock,
    link::{Cause, Event, EventKind},
    link_event::{self, LinkEvent, LinkName},
    telemetry::{
        Telemetry,
        logs::{self, FlapFilter},
    },
    time::Timestamp,
};

/// The sinks of events.
pub(super) struct Publisher {
    telemetry: Telemetry,
    listeners: broadcast::Sender<LinkEvent>,
    /// Requests an export at once.
    transition: Arc<Notify>,
}

/// What was published of one link's events.
#[derive(Default)]
pub(super) struct Publication {
    /// The cause that was last exported at once: most attempts of an outage fail alike, and need no
    /// export each.
    exported: Option<Cause>,
    flaps: FlapFilter,
}

impl Publisher {
    pub(super) fn new(
        telemetry: Telemetry,
        listeners: broadcast::Sender<LinkEvent>,
        transition: Arc<Notify>,
    ) -> Self {
        Self {
            telemetry,
            listeners,
            transition,
        }
    }

    /// Publishes one event of one link.
    pub(super) fn publish(&self, name: &LinkName, publication: &mut Publication, event: Event) {
        self.record(&name.peer, &event.kind);
        let known_at = clock::now();
        let Event { at, kind } = event.map_time(clock::wall);
        if publication.is_exported_at_once(&kind) {
            self.transition.notify_one();
        }
        for log_entry in publication.flaps.apply(known_at, &kind) {
            logs::log(name, &log_entry);
        }
        let event = LinkEvent {
            at,
            known_at: clock::wall(known_at),
            link: name.clone(),
            kind,
        };
        // Nobody may be listening.
        let _ = self.listeners.send(event);
    }

    /// Requests an export for a change that no event announces.
    pub(super) fn export_soon(&self) {
        self.transition.notify_one();
    }

    /// Records the event's durations in histograms.
    fn record(&self, peer: &str, kind: &EventKind) {
        match kind {
            EventKind::Connected {
                duration: Some(duration),
                ..
            } => self.telemetry.record_connect(peer, *duration, None),
            EventKind::ConnectFailed(failed) => {
                if let Some(duration) = failed.duration {
                    let cause = Some(failed.cause);
                    self.telemetry.record_connect(peer, duration, cause);
                }
            }
            EventKind::Reachable {
                outage: Some(outage),
                ..
            } => self
                .telemetry
                .record_outage(peer, outage.duration, outage.cause),
            EventKind::Connected { duration: None, .. }
            | EventKind::Reachable { outage: None, .. }
            | EventKind::Discovered
            | EventKind::Disconnected { .. }
            | EventKind::Unreachable { .. }
            | EventKind::Unknown { .. }
            | EventKind::Idle
            | EventKind::Ended => {}
        }
    }
}

impl Publication {
    /// Logs what is due by `now` for the link of this name.
    pub(super) fn log_due(&mut self, name: &LinkName, now: Timestamp) {
        if let Some(log_entry) = self.flaps.on_deadline(now) {
            logs::log(name, &log_entry);
        }
    }

    /// Logs what is still held back, because the agent stops.
    pub(super) fn log_rest(&mut self, name: &LinkName, now: Timestamp) {
        for log_entry in self.flaps.flush(now) {
            logs::log(name, &log_entry);
        }
    }

    /// When [`log_due`](Self::log_due) is to be called next.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.flaps.next_deadline()
    }

    /// Whether the event is exported at once: a transition, or the first failure of its kind.
    fn is_exported_at_once(&mut self, kind: &link_event::EventKind) -> bool {
        let exported = match kind {
            EventKind::Discovered
            | EventKind::Reachable { .. }
            | EventKind::Unknown { .. }
            | EventKind::Idle
            | EventKind::Ended => None,
            EventKind::Unreachable { cause, .. } => Some(*cause),
            EventKind::ConnectFailed(failed) if self.exported != Some(failed.cause) => {
                Some(failed.cause)
            }
            EventKind::Connected { .. }
            | EventKind::ConnectFailed(_)
            | EventKind::Disconnected { .. } => return false,
        };
        self.exported = exported;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::clock::WallTime;

    fn failed(cause: Cause) -> link_event::EventKind {
        EventKind::ConnectFailed(link_event::FailedAttempt {
            at: WallTime(UNIX_EPOCH),
            peer_address: None,
            cause,
            proxy_address: None,
            errno: None,
            duration: None,
        })
    }

    fn unreachable(cause: Cause) -> link_event::EventKind {
        EventKind::Unreachable {
            cause,
            peer_address: None,
            proxy_address: None,
            attempts: Vec::new(),
        }
    }

    fn reachable() -> link_event::EventKind {
        EventKind::Reachable {
            outage: None,
            peer_address: ([10, 0, 0, 1], 8080).into(),
        }
    }

    #[test]
    fn a_transition_is_exported_at_once_and_alike_failures_are_not() {
        let mut publication = Publication::default();
        let mut is_at_once = |kind: link_event::EventKind| publication.is_exported_at_once(&kind);
        assert!(is_at_once(EventKind::Discovered));
        assert!(is_at_once(unreachable(Cause::PeerClosed)));
        assert!(is_at_once(failed(Cause::ConnectionRefused)));
        assert!(!is_at_once(failed(Cause::ConnectionRefused)));
        assert!(is_at_once(failed(Cause::Timeout)));
        assert!(is_at_once(reachable()));
        // A new outage starts over.
        assert!(is_at_once(failed(Cause::Timeout)));
        assert!(is_at_once(EventKind::Ended));
    }
}
