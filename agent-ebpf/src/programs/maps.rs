//! All state of the kernel half. This package's README says for each map who creates, fills and
//! deletes its entries, and what happens when it is full.
//!
//! No map evicts. An LRU map gives each CPU free lists of its own and evicts what it takes for the
//! oldest entry anywhere, so on a node with many CPUs a small one forgets what a link depends on
//! (`kernel/bpf/bpf_lru_list.c`: a target of 128 free nodes a CPU). A hash takes the last free
//! entry from any CPU's list. Strangers cannot fill the maps, because nothing of theirs is stored,
//! and everybody else has a quota ([`crate::account`]).

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use statlink_ebpf::{
    ConnectCall, Connection, LossReason, Neighbourhood, Sample, Source, Totals, limits,
};

use crate::atomic::add_u64;

/// Records of clients for userspace.
#[map]
pub(crate) static RING: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);

/// Records of clients' neighbours: in a separate ring, so that they cannot fill the clients'.
#[map]
pub(crate) static NEIGHBOUR_RING: RingBuf =
    RingBuf::with_byte_size(limits::NEIGHBOUR_RING_BYTES, 0);

/// Sources: tracked ones, and candidates.
#[map]
pub(crate) static SOURCES: HashMap<Source, Totals> = HashMap::with_max_entries(limits::SOURCES, 0);

/// Network namespaces of clients, by inode number.
#[map]
pub(crate) static NAMESPACES: HashMap<u32, Neighbourhood> =
    HashMap::with_max_entries(limits::NAMESPACES, 0);

/// Open connections, by the address of their `struct sock`.
#[map]
pub(crate) static CONNECTIONS: HashMap<u64, Connection> =
    HashMap::with_max_entries(limits::CONNECTIONS, 0);

/// connect() calls under way, by `bpf_get_current_pid_tgid()`.
#[map]
pub(crate) static CALLS: HashMap<u64, ConnectCall> = HashMap::with_max_entries(limits::CALLS, 0);

/// The number of candidates of a network namespace or a control group, see [`crate::candidates`].
#[map]
pub(crate) static CANDIDATE_QUOTAS: HashMap<u64, u32> =
    HashMap::with_max_entries(limits::CANDIDATE_QUOTAS, 0);

/// The number of shared places taken, by [`SharedUse`].
#[map]
static SHARED: Array<u32> = Array::with_max_entries(SharedUse::COUNT, 0);

/// The number of losses, by [`LossReason`].
#[map]
pub(crate) static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(LossReason::COUNT, 0);

/// The answer of the last run of the `sample` program.
#[map]
pub(crate) static SAMPLE: Array<Sample> = Array::with_max_entries(1, 0);

/// Places that several holders share.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum SharedUse {
    /// Entries of candidates.
    Candidates = 0,
    /// Shared places of sources in [`CONNECTIONS`].
    Connections = 1,
    /// Shared places of neighbours there.
    NeighbourConnections = 2,
    /// Shared places of sources in [`CALLS`].
    Calls = 3,
    /// Shared places of neighbours there.
    NeighbourCalls = 4,
}

impl SharedUse {
    const COUNT: u32 = 5;

    /// Its counter.
    #[inline(always)]
    pub(crate) fn count(self) -> Option<*mut u32> {
        SHARED.get_ptr_mut(self as u32)
    }
}

/// Counts something that does not reach userspace.
#[inline(always)]
pub(crate) fn count_loss(reason: LossReason) {
    if let Some(count) = LOSSES.get_ptr_mut(reason as u32) {
        // SAFETY: a valid pointer into this CPU's own slot. Programs of one CPU may interrupt each
        // other, so a plain increment could lose one; an atomic one cannot.
        unsafe { add_u64(count, 1) };
    }
}
