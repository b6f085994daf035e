//! When a target is over: the rules for addresses that come and go.
//!
//! Knative's forwarder (`pkg/autoscaler/statforwarder`) keeps a connection to the owner of each
//! bucket, and when the owner changes calls `Shutdown` on it (`pkg/websocket/connection.go`).
//! Nothing on the wire says so. What tells is what the client does next:
//!
//! - `Shutdown` of a live connection waits for the reader, which gives up 10 s after the last
//!   pong, and keeps everybody from writing meanwhile. So the silence that follows is no stall
//!   unless a ping was sent into it: stats that went out before are never answered.
//! - A connection that broke is dialled again at once. So a live one that the client closes is
//!   withdrawn, and not lost, if no dial to the same address follows within
//!   [`SETTLE`](super::tracking::SETTLE) and either nothing else is open to it or another connection to it is live.
//! - `Shutdown` in the middle of a series of dials ends the series. A connection that was live is
//!   dialled for ever, so the target was given up once no dial has come for longer than the
//!   client's longest pause after as many failures, and [`SLACK`].
//! - The first connection to an owner is dialled for 500 ms only, at the pod's address and then at
//!   the bucket's Service, and again with the next stat. So an address that never answered is
//!   given up likewise if another target has answered since its last dial; and else, for there
//!   may be nothing to forward for a while, only after the longest pause that there is.

use std::time::Duration;

use super::{
    Cause, Connection, Link, Output,
    connection::Verdict,
    lookups::{STEPS, longest_pause},
    reachability::Reach,
};
use crate::time::Timestamp;

/// What a link knows of its being a target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target {
    was_live: bool,
    /// When another target last answered.
    elsewhere: Option<Timestamp>,
}

impl Target {
    /// It was live.
    pub(super) fn was_live(&mut self) {
        self.was_live = true;
    }
}

impl Link {
    /// The link of a target, to which the first dial was at `at`.
    pub(super) fn target(at: Timestamp) -> Self {
        Self {
            target: Some(Target::default()),
            ..Self::discovered(at)
        }
    }

    /// Another target of the same client answered at `at`.
    pub(super) fn answered_elsewhere(&mut self, at: Timestamp) {
        if let Some(target) = &mut self.target {
            target.elsewhere = target.elsewhere.max(Some(at));
        }
    }

    /// Attempts may have gone unseen, so how long the client pauses is not known.
    pub(super) fn lose_track(&mut self) {
        self.lookups.judged();
    }

    /// Errors since it was reachable, or since its beginning.
    pub(super) fn errors_since_reachable(&self) -> u64 {
        self.trouble.errors(self.counts.total_errors())
    }

    /// When the last dial was, or the last end.
    pub(super) fn last_activity(&self) -> Timestamp {
        self.last_activity
    }

    /// When a target that is not dialled any more has been given up.
    pub(super) fn given_up_due(&self) -> Option<Timestamp> {
        let target = self.target.as_ref()?;
        let waits = match self.reach {
            Reach::Starting { .. } | Reach::Unreachable { .. } => self.connections.is_empty(),
            Reach::Reachable { .. } | Reach::Ended => false,
        };
        let replaced = target.elsewhere > Some(self.last_activity);
        let pause = if target.was_live || replaced {
            self.lookups.pause()
        } else {
            longest_pause(STEPS)
        };
        waits.then(|| self.last_activity + pause + SLACK)
    }

    /// Whether a close by this side at `closed`, that has settled, is the client's letting go.
    pub(super) fn is_withdrawn(&self, closed: Timestamp, verdict: Verdict) -> bool {
        let lost = matches!(verdict, Verdict::Lost { cause } if cause == Cause::LocalClosed);
        let mut others = self.connections.values();
        let remains = self.connections.is_empty() || others.any(Connection::is_open_and_live);
        self.target.is_some() && lost && self.last_activity <= closed && remains
    }

    /// The client has let go of `connection`; and of the target, if that was the last.
    pub(super) fn withdraw(
        &mut self,
        connection: &Connection,
        closed: Timestamp,
        outputs: &mut Vec<Output>,
    ) {
        self.tombstones.bury(connection.id);
        if self.connections.is_empty() {
            self.finish(closed, outputs);
        }
    }
}

/// How much longer than its longest pause a client that is starved may take.
const SLACK: Duration = Duration::from_millis(1_500);
