//! When the peer was last heard: from the kernel's ticks to nanoseconds.

use crate::limits::CLOSE_ANSWER_NS;

/// Instead of a time: data was never received.
pub const NEVER_HEARD: u64 = 0;

/// The time `ticks` ago. Both ends of the interval are rounded down to a tick, so the error is less
/// than one tick in either direction.
#[inline(always)]
pub const fn ticks_ago_ns(now_ns: u64, ticks: u32, tick_ns: u32) -> u64 {
    // The counter was read too early: half of its range is 24 days and more.
    let ticks = if ticks > i32::MAX as u32 { 0 } else { ticks };
    let ago = ticks as u64 * tick_ns as u64;
    // Odd, so that it is never `NEVER_HEARD`; one nanosecond does not matter beside a tick.
    now_ns.saturating_sub(ago) | 1
}

/// When data was last received, or [`NEVER_HEARD`]. `last` is the socket's `lrcvtime`, `jiffies`
/// the lower half of the kernel's counter at `now_ns`, and `tick_ns` the length of a tick.
///
/// A FIN takes one sequence number and so counts as one received byte (`tcp_rcv_nxt_update()`,
/// `net/ipv4/tcp_input.c`): a single byte is no answer.
#[inline(always)]
pub const fn heard_ns(
    bytes_received: u64,
    last: u32,
    now_ns: u64,
    jiffies: u32,
    tick_ns: u32,
) -> u64 {
    if bytes_received > 1 {
        // The lower half of the counter wraps.
        ticks_ago_ns(now_ns, jiffies.wrapping_sub(last), tick_ns)
    } else {
        NEVER_HEARD
    }
}

/// Whether an end at `end_ns` follows the peer's last data so closely that it may answer the peer's
/// close. Both halves call this: the kernel half for a reset, userspace for a close by this side.
#[inline(always)]
pub const fn answers_a_close(heard_ns: u64, end_ns: u64) -> bool {
    heard_ns != NEVER_HEARD && end_ns.saturating_sub(heard_ns) <= CLOSE_ANSWER_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's tick at each of the rates of `kernel/Kconfig.hz`, as `TICK_NSEC` rounds it
    /// (`include/vdso/jiffies.h`).
    const TICKS: [(u64, u32); 4] = [
        (100, 10_000_000),
        (250, 4_000_000),
        (300, 3_333_333),
        (1_000, 1_000_000),
    ];

    /// The counter at `time_ns`: it moves at multiples of the tick, plus its own phase.
    fn jiffies(time_ns: u64, tick_ns: u32, phase_ns: u64) -> u32 {
        let jiffies = (time_ns + phase_ns) / u64::from(tick_ns);
        u32::try_from(jiffies).unwrap()
    }

    /// How the kernel half sees an end `elapsed_ns` after the peer's last data, with a tick of this
    /// phase.
    fn seen_to_answer(elapsed_ns: u64, tick_ns: u32, phase_ns: u64) -> bool {
        let heard = 86_400_000_000_000;
        let end = heard + elapsed_ns;
        let last = jiffies(heard, tick_ns, phase_ns);
        let now = jiffies(end, tick_ns, phase_ns);
        answers_a_close(heard_ns(129, last, end, now, tick_ns), end)
    }

    #[test]
    fn at_every_tick_rate_30_ms_are_30_ms_give_or_take_a_tick() {
        for (hz, tick_ns) in TICKS {
            let tick = u64::from(tick_ns);
            for step in 0..100 {
                let phase = tick * step / 100;
                for elapsed in [0, 1, tick, CLOSE_ANSWER_NS - tick] {
                    assert!(
                        seen_to_answer(elapsed, tick_ns, phase),
                        "HZ={hz}, {elapsed} ns, phase {phase} ns"
                    );
                }
                for elapsed in [CLOSE_ANSWER_NS + tick, 100_000_000, 3_330_000_000] {
                    assert!(
                        !seen_to_answer(elapsed, tick_ns, phase),
                        "HZ={hz}, {elapsed} ns, phase {phase} ns"
                    );
                }
            }
        }
    }

    /// The limit was once two ticks of 250 Hz; that is within the present limit at every rate and
    /// phase.
    #[test]
    fn an_end_within_12_ms_always_answers() {
        for (hz, tick_ns) in TICKS {
            for phase in (0..u64::from(tick_ns)).step_by(100_000) {
                assert!(seen_to_answer(12_000_000, tick_ns, phase), "HZ={hz}");
            }
        }
    }

    #[test]
    fn the_limit_itself_counts_and_a_tick_beyond_does_not() {
        for (hz, tick_ns) in TICKS {
            let most = u32::try_from(CLOSE_ANSWER_NS / u64::from(tick_ns)).unwrap();
            let now = 1_000_000_000_000;
            assert!(
                answers_a_close(ticks_ago_ns(now, most, tick_ns), now),
                "HZ={hz}"
            );
            assert!(
                !answers_a_close(ticks_ago_ns(now, most + 1, tick_ns), now),
                "HZ={hz}"
            );
        }
    }

    #[test]
    fn a_lone_fin_is_not_heard() {
        for bytes in [0, 1] {
            assert_eq!(heard_ns(bytes, 7, 5_000, 7, 4_000_000), NEVER_HEARD);
        }
        assert_eq!(heard_ns(2, 7, 5_001, 7, 4_000_000), 5_001);
        assert!(!answers_a_close(NEVER_HEARD, 10));
    }

    #[test]
    fn the_counter_may_wrap_in_between() {
        let before_wrap = u32::MAX - 1;
        let heard = heard_ns(2, before_wrap, 1_000_000_000, 1, 4_000_000);
        assert_eq!(heard, (1_000_000_000 - 3 * 4_000_000) | 1);
    }

    #[test]
    fn a_tick_that_is_ahead_of_the_counter_is_now() {
        let now = 1_000_000_000_001;
        assert_eq!(heard_ns(2, 8, now, 7, 4_000_000), now);
    }

    #[test]
    fn what_was_heard_is_never_taken_for_what_was_not() {
        let start = ticks_ago_ns(1_000, 9, 4_000_000);
        assert_ne!(start, NEVER_HEARD);
    }
}
