//! Every timing of a link, with its reason.
//!
//! The client's own numbers come first, then those derived from them. "Knative's client" is
//! `websocket/connection.go` of `knative.dev/pkg`, which dials, pings and pauses for activators and
//! forwarders alike.

use std::time::Duration;

use statlink_ebpf::{CLOSE_ANSWER_NS, HOLD_NS};

// Knative's client.

/// How long the peer may take for its first data: the client's `HandshakeTimeout`, after which it
/// closes the socket. The first look after it decides, because only a look shows that nothing came.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(3);
/// The client's longest first pause after a failed dial: 100 ms, plus up to half of it.
const FIRST_PAUSE: Duration = Duration::from_millis(150);
/// How many steps of the pause are expected. The client dials 20 times before it starts over, so it
/// pauses 19 times and lengthens its pause 18 times: one step more is on the safe side.
pub(crate) const BACK_OFF_STEPS: u32 = 19;
/// The client's longest pause after this many failures in a row: each pause is 1.3 times the one
/// before.
pub(crate) fn longest_pause(failures: u32) -> Duration {
    (0..failures.min(BACK_OFF_STEPS)).fold(FIRST_PAUSE, |pause, _| pause * 13 / 10)
}

// From established to upgraded.

/// How long after its answer a connection must be held to count as upgraded. The client closes a
/// refused upgrade at once, so holding on is the evidence. The kernel half uses the same number.
pub(crate) const HOLD: Duration = Duration::from_nanos(HOLD_NS);
/// When to look for the first time after establishment. A sample shows only the last answer, and
/// the peer's next data (a pong, whenever the client pings) must not be taken for the first.
pub(crate) const FIRST_LOOK: Duration = Duration::from_millis(20);
/// How often to look for the peer's first data: at most 30 looks in the client's 3 s.
pub(crate) const UNANSWERED_CADENCE: Duration = Duration::from_millis(100);
/// The same, once the handshake has failed: Knative's client has closed by then, unless it is
/// frozen. No rarer than this, so that no answer that is held for long enough is missed.
pub(crate) const OVERDUE_CADENCE: Duration = HOLD;
/// How often to look whether a slow dial is over. The record of its end says so, but a program that
/// interrupts itself leaves none (`bpf_trace_run`, `kernel/trace/bpf_trace.c`).
pub(crate) const CONNECTING_CADENCE: Duration = Duration::from_secs(1);

/// How soon after the beginning of its dial a client may give up on a refused upgrade that it
/// holds: its `HandshakeTimeout` minus half a second, because the dial begins with a lookup, which
/// is not always seen.
pub(crate) const REFUSAL_BEGINS_TO_END: Duration = Duration::from_millis(2_500);
/// How late after connect() it may give up, with a moment to run. Less than the 3.33 s of the first
/// ping, so a connection that exists afterwards was upgraded.
pub(crate) const REFUSAL_ENDS: Duration = Duration::from_millis(3_300);
/// From when on, after the peer's answer, sent data is not part of the request: several of the
/// kernel's ticks, in which both times are measured, and less than the second between two stats.
pub(crate) const AFTER_THE_ANSWER: Duration = Duration::from_millis(100);
/// How often to look whether the client has sent something after the peer's first answer: it sends
/// a stat a second while there is traffic, and a ping after 3.33 s.
pub(crate) const PROOF_CADENCE: Duration = Duration::from_secs(1);

// Silence and stalls. The client pings every 3.33 s (a third of its 10 s read deadline), and each
// ping is answered.

/// A peer that got a ping and sends nothing for this long has stalled: one pong and a half is
/// missing. The client itself takes 10 s to notice.
pub(crate) const SILENCE: Duration = Duration::from_secs(5);
/// How long the peer may take to answer before silence is a stall. A starved client sends its first
/// ping after a long pause, and the peer gets a moment to answer it.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_millis(1_500);
/// Data sent sooner than this after the peer was heard is no ping, but stats, which are not
/// answered. A little less than 3.33 s, because the answer may have taken a moment. It matters at
/// the client's `Shutdown()`: the client then sends nothing more for the 10 s until its reader
/// gives up, and that silence is not the peer's fault.
pub(crate) const BEFORE_A_PING: Duration = Duration::from_millis(3_200);
/// How long an upgraded connection may carry nothing in either direction before the client itself
/// counts as frozen. A running client pings every 3.33 s. One that shuts down sends nothing more,
/// and is gone 10 s after the last pong, when its reader gives up. The rest is a margin for a
/// process that is starved at that moment.
pub(crate) const LOCAL_SILENCE: Duration = Duration::from_secs(12);
/// When a pong should have come: 3.33 s and a little.
pub(crate) const PONG_DUE: Duration = Duration::from_millis(3_500);
/// How often to look at a live connection whose pong is late: by this much the onset of a stall may
/// be noticed late.
pub(crate) const LIVE_CADENCE: Duration = Duration::from_millis(500);
/// How often to look whether a stall has healed: by this much a recovery may be noticed late.
pub(crate) const STALLED_CADENCE: Duration = Duration::from_millis(200);

// Several connect()s of one dial.

/// How soon after a failed connect() the next one belongs to the same dial. Go tries the next
/// address at once, and the other family after 300 ms or as soon as the first one fails
/// (`dialParallel`, `net/dial.go`), while the client pauses for 100 ms and more between two dials.
/// A failed dial is reported after this time.
pub(crate) const SAME_DIAL: Duration = Duration::from_millis(30);

// Ends.

/// How soon after the peer was heard a close by this side answers the peer's close. The kernel half
/// judges resets by the same number, and says there why it is 30 ms.
pub(crate) const CLOSE_ANSWER: Duration = Duration::from_nanos(CLOSE_ANSWER_NS);
/// How long after a close by this side the process may turn out to be ending: long enough for a
/// process that exits on a busy node, and short, because it delays the report of an outage.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);
/// The same for a close that answers the peer's: if this was the last act of a process, it has
/// ended by then. Shorter, because a restarted autoscaler must be reported within 50 ms.
pub(crate) const SETTLE_ANSWER: Duration = Duration::from_millis(40);
/// How long the record of an end may be late, once looks find the connection gone. A
/// resynchronisation brings lost ends within a few hundred milliseconds; after that, the link
/// decides without knowing the cause.
pub(crate) const VANISHED: Duration = Duration::from_secs(1);
/// How long after that the end may still appear among the missed ones without being counted again.
/// A burst that lets no resynchronisation finish lasts some seconds. After this time the kernel
/// never counted the end, and a missed end is another connection's.
pub(crate) const END_TURNS_UP: Duration = Duration::from_secs(10);
/// How far the set of the peer's addresses may lag behind a connection: the Kubernetes API reports
/// a new endpoint to kube-proxy and to the agent, and kube-proxy may be first.
pub const DOUBT: Duration = Duration::from_secs(2);

// The link.

/// How long after its discovery a client may be without a live connection. Its first dial may take
/// its full 3 s and be repeated at once; the first liveness check is at the end of the grace.
pub(crate) const START_UP_GRACE: Duration = Duration::from_secs(5);
/// Between two liveness checks: twelve a minute give a minute's error rate a resolution of 8 %, and
/// cost nothing.
pub(crate) const LIVENESS: Duration = Duration::from_secs(5);
/// After this long without an attempt, the lack of attempts is the cause: no back-off of Knative's
/// client takes longer. Of its 19 pauses the last is the longest: 100 ms × 1.3^18 = 11.2 s, plus up
/// to half of it at random, 16.9 s at worst. A dial that then looks up a name has 3 s before it is
/// seen to fail without an attempt: 19.9 s together. Without the random half, and with a name that
/// is found, it is 11.2 s.
pub(crate) const NO_ATTEMPT: Duration = Duration::from_secs(20);
/// How long after a lookup its attempt may come. The client's dial gives up after 3 s, its lookup
/// included. The rest is a margin, as much as [`PAUSE_SLACK`], for a client that is starved between
/// the two. It is not measured; it delays `dns` by that much.
pub(crate) const LOOKUP_ANSWERED: Duration = Duration::from_millis(4_500);
/// How much longer than its longest pause a starved client may take for its next dial.
pub(crate) const PAUSE_SLACK: Duration = Duration::from_millis(1_500);

// What a proxy's connection explains.

/// How soon after the beginning of the client's connection its proxy dials: as soon as it has
/// accepted the connection, or read the request. Half a second allows for a starved proxy, and is
/// short for another process in the pod that happens to dial.
pub(crate) const PROXY_DIALS: Duration = Duration::from_millis(500);
/// By how much the peer's answer may be dated too early: one of the kernel's ticks. A proxy dials
/// before it passes an answer on.
pub(crate) const PROXY_TICK: Duration = Duration::from_millis(10);
/// How long before the end of a live connection a proxy's failure explains it: long enough for a
/// proxy that passes on the end of its own connection, and short against a failure that belongs to
/// an earlier one.
pub(crate) const PROXY_BEFORE: Duration = Duration::from_secs(1);
/// How long a proxy's SYN may go unanswered before that is a failure: TCP's first retransmission
/// timeout (RFC 6298), so that at least one SYN has been retransmitted.
pub(crate) const PROXY_UNANSWERED: Duration = Duration::from_secs(1);
/// How long a proxy's decided attempt is remembered: longer than any end of the client's connection
/// waits to be judged ([`SETTLE`]).
pub(crate) const PROXY_DECIDED: Duration = Duration::from_secs(1);

// Several of them rest on one reason.
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
