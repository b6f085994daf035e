//! All state of the kernel half. The README of this package says who creates, fills and deletes the
//! entries of each map, and what happens when it is full.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use statlink_ebpf::{ConnectCall, Connection, LossReason, Sample, Source, Totals, limits};

use crate::atomic::add_u64;

/// Records for userspace.
#[map]
pub(crate) static RING: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);

/// Sources that userspace tracks; userspace creates and deletes the entries.
#[map]
pub(crate) static TOTALS: HashMap<Source, Totals> =
    HashMap::with_max_entries(limits::TRACKED_SOURCES, 0);

/// Sources that userspace does not track: what a pod did before userspace heard of it.
#[map]
pub(crate) static UNTRACKED_TOTALS: LruHashMap<Source, Totals> =
    LruHashMap::with_max_entries(limits::UNTRACKED_SOURCES, 0);

/// Open connections of tracked sources, by the address of their `struct sock`.
#[map]
pub(crate) static CONNECTIONS: HashMap<u64, Connection> =
    HashMap::with_max_entries(limits::TRACKED_CONNECTIONS, 0);

/// Open connections of all other sources.
#[map]
pub(crate) static UNTRACKED_CONNECTIONS: LruHashMap<u64, Connection> =
    LruHashMap::with_max_entries(limits::UNTRACKED_CONNECTIONS, 0);

/// connect() calls under way, by `bpf_get_current_pid_tgid()`.
#[map]
pub(crate) static CALLS: HashMap<u64, ConnectCall> =
    HashMap::with_max_entries(limits::CONNECT_CALLS, 0);

/// What did not reach userspace, by [`LossReason`].
#[map]
pub(crate) static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(LossReason::COUNT, 0);

/// The answer of the last run of the `sample` program.
#[map]
pub(crate) static SAMPLE: Array<Sample> = Array::with_max_entries(1, 0);

/// Counts something that does not reach userspace.
#[inline(always)]
pub(crate) fn count_loss(reason: LossReason) {
    if let Some(count) = LOSSES.get_ptr_mut(reason as u32) {
        // SAFETY: a valid pointer into this CPU's own slot; programs of one CPU may interrupt
        // each other, so a plain increment could lose one, an atomic one cannot.
        unsafe { add_u64(count, 1) };
    }
}
