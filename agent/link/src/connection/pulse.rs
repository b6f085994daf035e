//! The traffic on an upgraded connection: when silence becomes a stall, and on which side.

use crate::{
    Cause, Sample,
    time::Timestamp,
    timings::{ANSWER_GRACE, BEFORE_A_PING, LIVE_CADENCE, LOCAL_SILENCE, PONG_DUE, SILENCE},
};

/// When the peer was last heard, what waits for its answer, and when the client last sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    pub(super) heard: Timestamp,
    /// The earliest known sending since then of what may be a ping; a sample shows only the last
    /// sending.
    unanswered: Option<Timestamp>,
    /// Since when each look finds data that the peer has not taken. Where its kernel has no room for more,
    /// pings wait for that unsent.
    untaken: Option<Timestamp>,
    /// When anything was last sent or heard.
    last_word: Timestamp,
}

impl Pulse {
    /// Nothing was sent since the peer was `heard`.
    pub(super) const fn new(heard: Timestamp) -> Self {
        Self {
            heard,
            unanswered: None,
            untaken: None,
            last_word: heard,
        }
    }

    /// A look at `at` showed `sample`; the peer was last `heard` then.
    pub(super) fn update(&mut self, at: Timestamp, heard: Option<Timestamp>, sample: &Sample) {
        if let Some(heard) = heard
            && heard > self.heard
        {
            self.heard = heard;
            self.unanswered = None;
            self.untaken = None;
        }
        let sent = sample.sent;
        let pinged = sent.filter(|&sent| sent > self.heard + BEFORE_A_PING);
        self.unanswered = self.unanswered.or(pinged);
        let is_untaken = sample.unacknowledged;
        self.untaken = is_untaken.then(|| self.untaken.unwrap_or(at));
        self.last_word = self.last_word.max(self.heard).max(sent.unwrap_or_default());
    }

    /// Since when the client waits for the peer's word.
    fn waits_since(&self) -> Option<Timestamp> {
        let both = [self.unanswered, self.untaken];
        both.into_iter().flatten().min()
    }

    /// When silence becomes a stall, and on which side, if nothing is heard or sent until then.
    pub(super) fn stall_due(&self) -> (Timestamp, Cause) {
        match self.waits_since() {
            Some(since) => {
                let due = (self.heard + SILENCE).max(since + ANSWER_GRACE);
                (due, Cause::Stalled)
            }
            None => (self.last_word + LOCAL_SILENCE, Cause::LocalStalled),
        }
    }

    /// Whether the silence of the peer is still a stall at `at`.
    pub(super) fn is_silent(&self, at: Timestamp) -> bool {
        self.waits_since().is_some() && at >= self.heard + SILENCE
    }

    /// When to look next at a connection that is well at `at`.
    pub(super) fn next_look(&self, at: Timestamp) -> Timestamp {
        let pong_due = self.heard + PONG_DUE;
        if at < pong_due {
            return pong_due;
        }
        match (self.waits_since(), self.stall_due()) {
            (Some(_), (due, _)) if due > at => due,
            // A ping may be sent at any moment, and then something else is due.
            (None, (due, _)) if due > at => due.min(at + LIVE_CADENCE),
            _ => at + LIVE_CADENCE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HEARD: Timestamp = Timestamp::from_nanos(20_000_000_000);

    fn after(milliseconds: u64) -> Timestamp {
        HEARD + Duration::from_millis(milliseconds)
    }

    /// A client that has sent at these times since the peer was heard.
    fn sent(times: &[u64]) -> Pulse {
        let mut pulse = Pulse::new(HEARD);
        for time in times {
            let sample = Sample {
                established: true,
                heard: Some(HEARD),
                sent: Some(after(*time)),
                unacknowledged: false,
                timeouts: 0,
                rtt: None,
                looped: false,
            };
            pulse.update(after(*time), Some(HEARD), &sample);
        }
        pulse
    }

    #[test]
    fn silence_is_a_stall_5_s_on_and_only_after_a_ping() {
        for (case, pulse, at, silent) in [
            ("nothing was asked", sent(&[]), 60_000, false),
            ("no ping", sent(&[3_200]), 60_000, false),
            ("a ping", sent(&[3_300]), 5_000, true),
            ("a ping, and not yet", sent(&[3_300]), 4_999, false),
        ] {
            assert_eq!(pulse.is_silent(after(at)), silent, "{case}");
        }
    }

    #[test]
    fn a_look_comes_when_something_may_be_due() {
        for (case, pulse, at, next) in [
            ("a pong", sent(&[]), 0, 3_500),
            ("just before the pong", sent(&[]), 3_499, 3_500),
            ("no ping seen", sent(&[]), 3_500, 4_000),
            ("a ping waits", sent(&[3_300]), 3_500, 5_000),
            ("a ping has waited", sent(&[3_300]), 5_000, 5_500),
            ("the client's own silence", sent(&[]), 11_700, 12_000),
            ("that is over", sent(&[]), 12_000, 12_500),
        ] {
            assert_eq!(pulse.next_look(after(at)), after(next), "{case}");
        }
    }
}
