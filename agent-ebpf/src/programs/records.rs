//! Records: what they say, and how they get into the ring.

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_ktime_get_ns,
};
use statlink_ebpf::{
    Connection, End, LossReason, Phase, Record, RecordKind, Source,
    decide::{NEVER_HEARD, wakes_reader},
};

use crate::maps::{RING, count_loss};

/// What a record says beyond its connection.
pub(crate) struct RecordFields {
    kind: RecordKind,
    time_ns: u64,
    end: u8,
    errno: u16,
    phase: u8,
    pub(crate) timeouts: u8,
    heard_ns: u64,
}

/// How a connection ended.
pub(crate) struct Ended {
    pub(crate) time_ns: u64,
    pub(crate) end: End,
    pub(crate) errno: u16,
    pub(crate) phase: Phase,
    pub(crate) timeouts: u8,
    pub(crate) heard_ns: u64,
}

impl RecordFields {
    #[inline(always)]
    pub(crate) const fn new(kind: RecordKind, time_ns: u64) -> Self {
        Self {
            kind,
            time_ns,
            end: 0,
            errno: 0,
            phase: 0,
            timeouts: 0,
            heard_ns: NEVER_HEARD,
        }
    }

    #[inline(always)]
    pub(crate) const fn ended(ended: &Ended) -> Self {
        Self {
            kind: RecordKind::Ended,
            time_ns: ended.time_ns,
            end: ended.end as u8,
            errno: ended.errno,
            phase: ended.phase as u8,
            timeouts: ended.timeouts,
            heard_ns: ended.heard_ns,
        }
    }
}

/// Puts one record into the ring; false if it was full. `tracked` says whether the record is about a
/// tracked source.
#[inline(always)]
pub(crate) fn report(
    sock: u64,
    connection: &Connection,
    fields: &RecordFields,
    tracked: bool,
) -> bool {
    let Some(mut entry) = RING.reserve::<Record>(0) else {
        count_loss(LossReason::RingFull);
        return false;
    };
    entry.write(Record {
        time_ns: fields.time_ns,
        sock,
        born_ns: connection.born_ns,
        attempted_ns: connection.attempted_ns,
        tgid: connection.tgid,
        netns: connection.netns,
        peer: connection.peer,
        peer_port: connection.peer_port,
        errno: fields.errno,
        kind: fields.kind as u8,
        end: fields.end,
        phase: fields.phase,
        timeouts: fields.timeouts,
        heard_ns: fields.heard_ns,
    });
    // Forced, because the adaptive wake-up stays silent while an unwoken record waits.
    let wake_up = if wakes_reader(fields.kind, tracked) {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    entry.submit(u64::from(wake_up));
    true
}

/// What stands in a connection's place in a record about a process.
#[inline(always)]
pub(crate) const fn no_connection(source: &Source) -> Connection {
    Connection {
        born_ns: 0,
        attempted_ns: 0,
        established_ns: 0,
        tgid: source.tgid,
        netns: source.netns,
        peer: [0; 16],
        peer_port: 0,
        soft_errno: 0,
        retransmits: 0,
        phase: 0,
        _pad: [0; 7],
    }
}

/// `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}
