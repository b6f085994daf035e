//! One look at one connection, on userspace's demand: nothing per packet.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use statlink_ebpf::Sample;

use super::connect::read_kernel;
use crate::{
    account::now,
    maps::{CONNECTIONS, SAMPLE, offset},
    sock::{heard_ago, jiffies},
};

/// Never attached: userspace runs it by `BPF_PROG_TEST_RUN` with `(sock, born_ns)`.
///
/// `bpf_prog_test_run_raw_tp()` in `net/bpf/test_run.c`, since 5.10. The address is worth
/// nothing by itself: it is read only while the connection it names is known, and what was read
/// counts only if that still holds afterwards.
#[raw_tracepoint(tracepoint = "sample")]
pub(crate) fn sample(ctx: RawTracePointContext) -> i32 {
    let Some(slot) = SAMPLE.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a live map value; userspace runs one sample at a time.
    unsafe { *slot = look(ctx.arg(0), ctx.arg(1)) };
    0
}

#[inline(always)]
fn look(sock: u64, born_ns: u64) -> Sample {
    let mut sample = Sample {
        time_ns: now(),
        jiffies: jiffies(),
        bytes_received: 0,
        heard_ago: statlink_ebpf::NEVER_HEARD,
        sent_ago: 0,
        srtt_us: 0,
        packets_out: 0,
        timeouts: 0,
        state: 0,
        valid: 0,
        _pad: [0; 5],
    };
    if known(sock, born_ns)
        && read(sock as *const u8, &mut sample).is_some()
        && known(sock, born_ns)
    {
        sample.valid = 1;
    }
    sample
}

#[inline(always)]
fn known(sock: u64, born_ns: u64) -> bool {
    CONNECTIONS
        .get_ptr(sock)
        // SAFETY: a live map value; `born_ns` is written once.
        .is_some_and(|connection| unsafe { (*connection).born_ns } == born_ns)
}

#[inline(always)]
fn read(sock: *const u8, sample: &mut Sample) -> Option<()> {
    sample.state = read_kernel(sock.wrapping_add(offset!(sock_state)))?;
    sample.bytes_received = read_kernel(sock.wrapping_add(offset!(tcp_bytes_received)))?;
    let heard: u32 = read_kernel(sock.wrapping_add(offset!(tcp_lrcvtime)))?;
    let sent: u32 = read_kernel(sock.wrapping_add(offset!(tcp_lsndtime)))?;
    let srtt_us: u32 = read_kernel(sock.wrapping_add(offset!(tcp_srtt_us)))?;
    sample.packets_out = read_kernel(sock.wrapping_add(offset!(tcp_packets_out)))?;
    sample.timeouts = read_kernel(sock.wrapping_add(offset!(tcp_timeouts)))?;
    sample.heard_ago = heard_ago(sample.bytes_received, heard, sample.jiffies);
    sample.sent_ago = (sample.jiffies as u32).wrapping_sub(sent);
    sample.srtt_us = srtt_us >> 3;
    Some(())
}
