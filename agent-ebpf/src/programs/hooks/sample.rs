//! One look at one connection, on userspace's demand, so nothing runs per packet.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use statlink_ebpf::{
    Sample,
    decide::{NEVER_HEARD, heard_ns, ticks_ago_ns},
};

use crate::{
    constants::{offset, tick_ns},
    maps::{CONNECTIONS, SAMPLE},
    memory::read_kernel,
    records::now,
    sock::jiffies,
};

/// Never attached: userspace runs it with `(sock, born_ns)` by `BPF_PROG_TEST_RUN`.
///
/// Source: `bpf_prog_test_run_raw_tp()` in `net/bpf/test_run.c`, since 5.10.
///
/// Why so: it reaches a socket in any network namespace without entering it, 20 to 25 µs a look.
///
/// What holds: nothing about the address. It is read only while its connection is known, and the
/// result counts only if the connection is still known afterwards. Userspace runs one at a time.
#[raw_tracepoint(tracepoint = "sample")]
pub(crate) fn sample(ctx: RawTracePointContext) -> i32 {
    try_sample(ctx.arg(0), ctx.arg(1));
    0
}

#[inline(always)]
fn try_sample(sock: u64, born_ns: u64) -> Option<()> {
    let slot = SAMPLE.get_ptr_mut(0)?;
    let mut sample = Sample {
        time_ns: now(),
        heard_ns: NEVER_HEARD,
        sent_ns: 0,
        bytes_received: 0,
        srtt_us: 0,
        unacknowledged: 0,
        timeouts: 0,
        state: 0,
        valid: 0,
        bypassed: 0,
        peer_mss: 0,
        _pad: [0; 2],
    };
    if is_known(sock, born_ns)
        && try_read(sock as *const u8, &mut sample).is_some()
        && is_known(sock, born_ns)
    {
        sample.valid = 1;
    }
    // SAFETY: a live map value; userspace runs one sample at a time.
    unsafe { *slot = sample };
    Some(())
}

#[inline(always)]
fn is_known(sock: u64, born_ns: u64) -> bool {
    CONNECTIONS
        .get_ptr(sock)
        // SAFETY: a live map value; `born_ns` is written once.
        .is_some_and(|connection| unsafe { (*connection).born_ns } == born_ns)
}

#[inline(always)]
fn try_read(sock: *const u8, sample: &mut Sample) -> Option<()> {
    let time_ns = sample.time_ns;
    sample.state = read_kernel(sock.wrapping_add(offset!(sock_state)))?;
    sample.bytes_received = read_kernel(sock.wrapping_add(offset!(tcp_bytes_received)))?;
    let heard: u32 = read_kernel(sock.wrapping_add(offset!(tcp_lrcvtime)))?;
    let sent: u32 = read_kernel(sock.wrapping_add(offset!(tcp_lsndtime)))?;
    // Read the counter last: it moves, and the times must not be ahead of it.
    let now = jiffies();
    let srtt_us: u32 = read_kernel(sock.wrapping_add(offset!(tcp_srtt_us)))?;
    let acknowledged: u32 = read_kernel(sock.wrapping_add(offset!(tcp_snd_una)))?;
    let written: u32 = read_kernel(sock.wrapping_add(offset!(tcp_write_seq)))?;
    // What is acknowledged meanwhile is not ahead of what was written.
    sample.unacknowledged = written.wrapping_sub(acknowledged);
    sample.timeouts = read_kernel(sock.wrapping_add(offset!(tcp_timeouts)))?;
    // A socket in a sockmap has its `sk_psock` there (`sk_psock_init()`, `net/core/skmsg.c`), and
    // then its data may go from queue to queue without TCP. An application's TCP socket has nothing
    // else there.
    let user_data: u64 = read_kernel(sock.wrapping_add(offset!(sock_user_data)))?;
    sample.bypassed = u8::from(user_data != 0);
    sample.peer_mss = read_kernel(sock.wrapping_add(offset!(tcp_mss_clamp)))?;
    sample.heard_ns = heard_ns(sample.bytes_received, heard, time_ns, now, tick_ns());
    sample.sent_ns = ticks_ago_ns(time_ns, now.wrapping_sub(sent), tick_ns());
    // The kernel keeps eighths (`tcp_rtt_estimator()`, `net/ipv4/tcp_input.c`).
    sample.srtt_us = srtt_us >> 3;
    Some(())
}
