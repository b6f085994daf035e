//! Records: their contents, and how they get into the ring.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_ktime_get_ns,
};
use statlink_ebpf::{
    Connection, End, LossReason, Phase, Place, Record, RecordKind, Source,
    decide::{NEVER_HEARD, has_room_to_spare, is_half_full},
    limits,
};

use crate::{
    constants::wakes,
    maps::{NEIGHBOUR_RING, RING, count_loss},
};

/// The fields of a record beyond its connection.
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

/// Puts one record into a ring: the clients' if `tracked`. A record that does not fit is counted.
#[inline(always)]
pub(crate) fn report(sock: u64, connection: &Connection, fields: &RecordFields, tracked: bool) {
    if !put(sock, connection, fields, tracked) {
        count_loss(if tracked {
            LossReason::RingFull
        } else {
            LossReason::NeighbourRingFull
        });
    }
}

/// The same; returns false if the ring was full.
#[inline(always)]
pub(crate) fn put(
    sock: u64,
    connection: &Connection,
    fields: &RecordFields,
    tracked: bool,
) -> bool {
    let record = Record {
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
    };
    // Copied by one helper, not reserved and submitted: a reserved record blocks all later ones
    // while its writer is kept from running.
    if tracked {
        RING.output::<Record>(&record, wake_up()).is_ok()
    } else {
        NEIGHBOUR_RING
            .output::<Record>(&record, neighbour_wake_up())
            .is_ok()
    }
}

/// Puts a record of an execution into the clients' ring: the process may be a client. Anybody can
/// execute any number of them, so they take no room that links may need. False if there is no other.
#[inline(always)]
pub(crate) fn put_executed(source: &Source) -> bool {
    let waiting = RING.query(u64::from(BPF_RB_AVAIL_DATA));
    if !has_room_to_spare(waiting, u64::from(limits::RING_BYTES)) {
        return false;
    }
    let fields = RecordFields::new(RecordKind::Executed, now());
    put(0, &no_connection(source), &fields, true)
}

/// The kernel wakes a reader that has read all records before this one; any other reader is awake,
/// or has been woken (`bpf_ringbuf_commit()`, `kernel/bpf/ringbuf.c`). Nothing is forced, so a
/// burst wakes it once.
#[inline(always)]
fn wake_up() -> u64 {
    if wakes() {
        0
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// See [`is_half_full`]. Forced, because earlier records woke nobody and wait.
#[inline(always)]
fn neighbour_wake_up() -> u64 {
    let flags = if wakes()
        && is_half_full(
            NEIGHBOUR_RING.query(u64::from(BPF_RB_AVAIL_DATA)),
            RECORD_BYTES,
            u64::from(limits::NEIGHBOUR_RING_BYTES),
        ) {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    u64::from(flags)
}

/// With its header: `BPF_RINGBUF_HDR_SZ`, `include/uapi/linux/bpf.h`.
const RECORD_BYTES: u64 = size_of::<Record>() as u64 + 8;

/// The connection fields of a record about a process.
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
        place: Place::Reserved as u8,
        reported_errno: 0,
        in_unkept_call: 0,
        _pad: [0; 3],
    }
}

/// `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}
