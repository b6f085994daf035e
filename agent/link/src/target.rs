//! When a target is over: the rules for addresses that come and go.
//!
//! Knative's forwarder (`pkg/autoscaler/statforwarder`) keeps a connection to the owner of each
//! bucket, and when the owner changes calls `Shutdown` on it (`pkg/websocket/connection.go`).
//! Nothing on the wire shows this, but the client's next steps do:
//!
//! - `Shutdown` of a live connection waits for the reader, which gives up 10 s after the last pong,
//!   and blocks all writers meanwhile. So the silence that follows is no stall unless a ping was
//!   sent into it: stats sent before are never answered.
//! - The client dials again at once after a connection broke. So a live one that the client closes
//!   is withdrawn, and not lost, if no dial to the same address follows within
//!   [`SETTLE`](crate::timings::SETTLE) and either nothing else is open to it or another connection
//!   to it is live.
//! - `Shutdown` during a series of dials ends the series. For a connection that was live, the
//!   client dials for ever; so the target was given up when no dial has come for longer than the
//!   client's longest pause for its number of failures, plus [`PAUSE_SLACK`].
//! - The first connection to an owner is dialled for only 500 ms, at the pod's address and then at
//!   the bucket's Service, and again with the next stat. So an address that never answered is also
//!   given up if another target has answered since its last dial. Otherwise there may be nothing to
//!   forward for a while, so it is given up only after the longest of all pauses.

use std::time::Duration;

use crate::{
    time::Timestamp,
    timings::{BACK_OFF_STEPS, PAUSE_SLACK, longest_pause},
};

/// What a link knows about being a target.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    was_live: bool,
    /// When another target last answered.
    elsewhere: Option<Timestamp>,
}

impl Target {
    /// It has been live.
    pub(crate) fn was_live(&mut self) {
        self.was_live = true;
    }

    /// Another target of the same client answered at `at`.
    pub(crate) fn answered_elsewhere(&mut self, at: Timestamp) {
        self.elsewhere = self.elsewhere.max(Some(at));
    }

    /// When it counts as given up, if it is not live and nothing has happened on it since `quiet`.
    /// `pause` is the client's longest pause for its number of failures.
    pub(crate) fn given_up_due(&self, quiet: Timestamp, pause: Duration) -> Timestamp {
        let replaced = self.elsewhere > Some(quiet);
        let pause = if self.was_live || replaced {
            pause
        } else {
            longest_pause(BACK_OFF_STEPS)
        };
        quiet + pause + PAUSE_SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_since_it_fell_quiet_stands_in_for_it() {
        let quiet = Timestamp::from_nanos(1_000_000_000);
        let pause = Duration::from_millis(200);
        let replaced = quiet + pause + PAUSE_SLACK;
        for (answered, is_replaced) in [(0, false), (1, true)] {
            let mut target = Target::default();
            target.answered_elsewhere(quiet + Duration::from_nanos(answered));
            let due = target.given_up_due(quiet, pause);
            assert_eq!(due == replaced, is_replaced, "{answered} ns later");
        }
    }
}
