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
//!   [`SETTLE`](crate::timings::SETTLE) and either nothing else is open to it or another connection
//!   to it is live.
//! - `Shutdown` in the middle of a series of dials ends the series. A connection that was live is
//!   dialled for ever, so the target was given up once no dial has come for longer than the
//!   client's longest pause after as many failures, and [`PAUSE_SLACK`].
//! - The first connection to an owner is dialled for 500 ms only, at the pod's address and then at
//!   the bucket's Service, and again with the next stat. So an address that never answered is
//!   given up likewise if another target has answered since its last dial; and else, for there
//!   may be nothing to forward for a while, only after the longest pause that there is.

use std::time::Duration;

use crate::{
    time::Timestamp,
    timings::{BACK_OFF_STEPS, PAUSE_SLACK, longest_pause},
};

/// What a link knows of its being a target.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    was_live: bool,
    /// When another target last answered.
    elsewhere: Option<Timestamp>,
}

impl Target {
    /// It was live.
    pub(crate) fn was_live(&mut self) {
        self.was_live = true;
    }

    /// Another target of the same client answered at `at`.
    pub(crate) fn answered_elsewhere(&mut self, at: Timestamp) {
        self.elsewhere = self.elsewhere.max(Some(at));
    }

    /// When it has been given up, if it is not live, nothing has happened on it since `quiet`, and
    /// this is the client's `pause` after as many failures as it had.
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
