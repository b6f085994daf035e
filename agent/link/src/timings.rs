//! Every timing of a link, and why it is what it is.
//!
//! The client's own numbers come first, then what is derived from them.
//! "Knative's client" is `websocket/connection.go` of `knative.dev/pkg`, which dials, pings and
//! pauses for activators and forwarders alike.

use std::time::Duration;

use statlink_ebpf::{CLOSE_ANSWER_NS, HOLD_NS};

// Knative's client.

/// How long the peer may take for its first data: the client's `HandshakeTimeout`, after which it
/// closes the socket. Decided by the first look after it, for only a look shows that nothing came.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(3);
/// The client's longest first pause after a failed dial: 100 ms, and up to half of it again.
const FIRST_PAUSE: Duration = Duration::from_millis(150);
/// How many steps of the pause are reckoned with. The client dials 20 times before it begins anew,
/// so it pauses 19 times, and lengthens its pause 18 times: one step more is on the safe side.
pub(crate) const BACK_OFF_STEPS: u32 = 19;
/// The longest pause that the client makes after so many failures in a row: each is 1.3 times the
/// one before.
pub(crate) fn longest_pause(failures: u32) -> Duration {
    (0..failures.min(BACK_OFF_STEPS)).fold(FIRST_PAUSE, |pause, _| pause * 13 / 10)
}

// From established to upgraded.

/// How long after its answer a connection must be held to count as upgraded. The client closes a
/// refused upgrade at once, so holding on is the evidence. The kernel half judges by it, too.
pub(crate) const HOLD: Duration = Duration::from_nanos(HOLD_NS);
/// When to look for the first time after establishment. A sample shows only the last answer, and
/// what the peer says next (a pong, whenever the client pings) must not be taken for the first.
pub(crate) const FIRST_LOOK: Duration = Duration::from_millis(20);
/// How often to look for the peer's first data: at most 30 looks in the client's 3 s.
pub(crate) const UNANSWERED_CADENCE: Duration = Duration::from_millis(100);
/// The same, once the handshake has failed: Knative's client has closed by then, unless it is
/// frozen. No rarer than this, so that no answer that is held for long enough goes unseen.
pub(crate) const OVERDUE_CADENCE: Duration = HOLD;
/// How often to look whether a dial that takes long is over. The record of its end says so, but a
/// program that interrupts itself leaves none (`bpf_trace_run`, `kernel/trace/bpf_trace.c`).
pub(crate) const CONNECTING_CADENCE: Duration = Duration::from_secs(1);

/// How soon after its dial began a client that holds on to a refused upgrade gives up, at the
/// earliest: its `HandshakeTimeout` without half a second, for the dial begins with a lookup, which
/// is not always seen.
pub(crate) const REFUSAL_BEGINS_TO_END: Duration = Duration::from_millis(2_500);
/// The same, after connect() and at the latest: with a moment to run. Less than the 3.33 s of the
/// first ping, so that whoever is there afterwards was upgraded.
pub(crate) const REFUSAL_ENDS: Duration = Duration::from_millis(3_300);
/// How long after the peer's answer what is sent is no part of the request: several of the kernel's
/// ticks, to which both times are dated, and less than the second between two stats.
pub(crate) const AFTER_THE_ANSWER: Duration = Duration::from_millis(100);
/// How often to look whether the client has sent something after the peer's first answer: it sends
/// a stat a second while there is traffic, and a ping after 3.33 s.
pub(crate) const PROOF_CADENCE: Duration = Duration::from_secs(1);

// Silence and stalls. The client pings every 3.33 s (a third of its 10 s read deadline), and each
// ping is answered.

/// Spoken to, but without a word for this long, the peer has stalled: one pong and a half is
/// missing. The client itself takes 10 s to notice.
pub(crate) const SILENCE: Duration = Duration::from_secs(5);
/// How long the peer may take to answer before silence is a stall. A client that was starved sends
/// its first ping after a long pause, and the peer gets a moment to answer it.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_millis(1_500);
/// What is sent sooner after the peer was heard is no ping, but stats, which are not answered. A
/// little less than 3.33 s, for the answer may have taken a moment. It matters at the client's
/// `Shutdown()`: that sends nothing more for the 10 s until its reader gives up, and such silence
/// is not the peer's.
pub(crate) const BEFORE_A_PING: Duration = Duration::from_millis(3_200);
/// How long an upgraded connection may be without a word from either side before the client itself
/// is taken for frozen. A running client pings every 3.33 s, and one that shuts down, which sends
/// nothing more, is gone 10 s after the last pong: its reader gives up then. The rest is margin for
/// a process that is starved at that moment.
pub(crate) const LOCAL_SILENCE: Duration = Duration::from_secs(12);
/// When a pong should have come: 3.33 s and a little.
pub(crate) const PONG_DUE: Duration = Duration::from_millis(3_500);
/// How often to look at a live connection whose pong is late: how late the onset of a stall may be
/// noticed.
pub(crate) const LIVE_CADENCE: Duration = Duration::from_millis(500);
/// How often to look whether a stall has healed: how late a recovery may be noticed.
pub(crate) const STALLED_CADENCE: Duration = Duration::from_millis(200);

// Several connect()s of one dial.

/// How soon after a connect() failed the next one belongs to the same dial. Go turns to the next
/// address at once, and to the other family after 300 ms or as soon as the first one fails
/// (`dialParallel`, `net/dial.go`), while the client pauses for 100 ms and more between two dials.
/// So soon, too, is a failed dial reported.
pub(crate) const SAME_DIAL: Duration = Duration::from_millis(30);

// Ends.

/// How soon after the peer was heard a close by this side answers the peer's close. The kernel half
/// judges resets by the same number, and says there why it is 30 ms.
pub(crate) const CLOSE_ANSWER: Duration = Duration::from_nanos(CLOSE_ANSWER_NS);
/// How long after a close by this side the process may turn out to have been ending: long for a
/// process that exits on a busy node, short for an outage that is reported that much later.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);
/// The same for a close that answers the peer's: a process whose last act this was has ended by
/// then. Shorter, for a restarted autoscaler is to be reported within 50 ms.
pub(crate) const SETTLE_ANSWER: Duration = Duration::from_millis(40);
/// How long the record of an end may be late, once looks find the connection gone. A
/// resynchronisation brings lost ends within a few hundred milliseconds; after that, the link
/// decides without knowing the cause.
pub(crate) const VANISHED: Duration = Duration::from_secs(1);
/// How long after that the end may still turn up among the missed ones, and is not counted again. A
/// burst that lets no resynchronisation come to an end lasts some seconds. Later the kernel never
/// counted it, and a missed end is another connection's.
pub(crate) const END_TURNS_UP: Duration = Duration::from_secs(10);
/// How long the set of the peer's addresses may be behind a connection: the Kubernetes API
/// reports a new endpoint to kube-proxy and to the agent, and kube-proxy may be first.
pub(crate) const DOUBT: Duration = Duration::from_secs(2);

// The link.

/// How long after its discovery a client may be without a live connection. Its first dial may take
/// its full 3 s and be repeated at once; the first liveness check falls on the grace's end.
pub(crate) const START_UP_GRACE: Duration = Duration::from_secs(5);
/// Between two liveness checks: twelve a minute, so that a minute's error rate has a resolution of
/// 8 %, and few enough to cost nothing.
pub(crate) const LIVENESS: Duration = Duration::from_secs(5);
/// Without an attempt for this long, the lack of one is the cause: no back-off of Knative's client
/// takes longer. Of its 19 pauses the last is the longest: 100 ms × 1.3^18 = 11.2 s, and up to half
/// of it again at random, 16.9 s at worst. A dial that then looks up a name has 3 s before it is
/// seen to fail without an attempt: 19.9 s together. Without the random half, and with a name that
/// is found, it is 11.2 s.
pub(crate) const NO_ATTEMPT: Duration = Duration::from_secs(20);
/// How long after a lookup the attempt may come that it is for. The client's dial gives up after
/// 3 s, its lookup included. The rest is margin, as much as [`PAUSE_SLACK`], for a client that is
/// starved between the two. No measurement stands behind it; it delays `dns` by so much.
pub(crate) const LOOKUP_ANSWERED: Duration = Duration::from_millis(4_500);
/// How much longer than its longest pause a client that is starved may take for its next dial.
pub(crate) const PAUSE_SLACK: Duration = Duration::from_millis(1_500);

// What a proxy's connection explains.

/// How soon after the client's connection began its proxy dials: as soon as it has accepted the
/// connection, or read the request. Half a second is for a proxy that is starved, and short for
/// somebody else in the pod who happens to dial.
pub(crate) const PROXY_DIALS: Duration = Duration::from_millis(500);
/// By how much the peer's answer may be dated too early: by one of the kernel's ticks. A proxy dials
/// before it passes an answer on.
pub(crate) const PROXY_TICK: Duration = Duration::from_millis(10);
/// How long before the end of a live connection a proxy's failure explains it: long for a proxy
/// that hands the end of its own connection on, short for a failure that belongs to an earlier one.
pub(crate) const PROXY_BEFORE: Duration = Duration::from_secs(1);
/// How long a proxy's SYN goes unanswered before that is a failure: TCP's first retransmission
/// timeout (RFC 6298), so that one SYN at least has been repeated.
pub(crate) const PROXY_UNANSWERED: Duration = Duration::from_secs(1);
/// How long a proxy's attempt that was decided is remembered: longer than any end of the client's
/// connection waits to be judged ([`SETTLE`]).
pub(crate) const PROXY_DECIDED: Duration = Duration::from_secs(1);

// One reason stands behind several of them.
const _: () = {
    assert!(SAME_DIAL.as_millis() < SETTLE_ANSWER.as_millis());
    assert!(SETTLE_ANSWER.as_millis() < SETTLE.as_millis());
    assert!(CLOSE_ANSWER.as_millis() < SETTLE_ANSWER.as_millis());
    assert!(SETTLE.as_millis() < PROXY_DECIDED.as_millis());
    assert!(HANDSHAKE.as_millis() < REFUSAL_ENDS.as_millis());
    assert!(AFTER_THE_ANSWER.as_millis() < PROOF_CADENCE.as_millis());
    assert!(PONG_DUE.as_millis() < SILENCE.as_millis());
    assert!(BEFORE_A_PING.as_millis() + ANSWER_GRACE.as_millis() < SILENCE.as_millis());
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_with_each_failure_until_the_client_begins_anew() {
        assert_eq!(longest_pause(0), Duration::from_millis(150));
        assert_eq!(longest_pause(1), Duration::from_millis(195));
        let longest = longest_pause(BACK_OFF_STEPS);
        assert!((20..24).contains(&longest.as_secs()), "{longest:?}");
        assert_eq!(longest_pause(BACK_OFF_STEPS + 1), longest);
    }
}
