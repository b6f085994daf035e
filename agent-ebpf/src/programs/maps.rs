//! All state of the kernel half, and the constants that userspace sets before loading.

use crate::atomic::add_u64;
use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use statlink_ebpf::{
    COMM_LEN, COMMS, ConnectCall, Connection, Loss, Offsets, RING_BYTES, Record, Sample, Source,
    Totals,
};

/// Records for userspace.
#[map]
pub(crate) static RING: RingBuf = RingBuf::with_byte_size(RING_BYTES as u32, 0);

/// Sources that userspace asked for; userspace creates and deletes the entries.
#[map]
pub(crate) static TOTALS: HashMap<Source, Totals> = HashMap::with_max_entries(256, 0);

/// Sources that nobody asked for yet: what a pod did before the agent heard of it.
#[map]
pub(crate) static STRANGER_TOTALS: LruHashMap<Source, Totals> =
    LruHashMap::with_max_entries(256, 0);

/// Open connections of sources that userspace asked for, by the address of their `struct sock`.
#[map]
pub(crate) static CONNECTIONS: HashMap<u64, Connection> = HashMap::with_max_entries(1024, 0);

/// Open connections of all other sources.
#[map]
pub(crate) static STRANGERS: LruHashMap<u64, Connection> = LruHashMap::with_max_entries(1024, 0);

/// connect() calls under way, by `bpf_get_current_pid_tgid`.
#[map]
pub(crate) static CALLS: HashMap<u64, ConnectCall> = HashMap::with_max_entries(512, 0);

/// What did not reach userspace, by [`Loss`].
#[map]
pub(crate) static LOSSES: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(Loss::ALL.len() as u32, 0);

/// The answer of the last run of the `sample` program.
#[map]
pub(crate) static SAMPLE: Array<Sample> = Array::with_max_entries(1, 0);

/// Constants, set by userspace before loading and frozen: the verifier takes them for literals.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = ZERO_OFFSETS;

/// The watched port, host byte order.
#[unsafe(no_mangle)]
static PORT: u16 = 0;

/// The `comm`s of the processes whose execution is reported; zeroes are nobody's.
#[unsafe(no_mangle)]
static COMM: [[u8; COMM_LEN]; COMMS] = [[0; COMM_LEN]; COMMS];

// SAFETY (of all reads below): the statics are valid for reads; volatile, because their value at
// run time is not the one the compiler sees.

#[inline(always)]
pub(crate) fn port() -> u16 {
    unsafe { core::ptr::read_volatile(&PORT) }
}

/// Whether processes of this name are watched.
#[inline(always)]
pub(crate) fn is_watched(comm: [u8; COMM_LEN]) -> bool {
    let watched = unsafe { core::ptr::read_volatile(&COMM) };
    let comm = u128::from_ne_bytes(comm);
    watched
        .iter()
        .any(|name| u128::from_ne_bytes(*name) == comm)
}

/// Reads one member of [`OFFSETS`].
macro_rules! offset {
    ($member:ident) => {
        $crate::maps::read_offset(core::mem::offset_of!(statlink_ebpf::Offsets, $member))
    };
}
pub(crate) use offset;

/// The offset stored `at` bytes into [`OFFSETS`]; use through [`offset!`].
#[inline(always)]
pub(crate) fn read_offset(at: usize) -> usize {
    unsafe {
        core::ptr::read_volatile((&raw const OFFSETS).cast::<u8>().add(at).cast::<u32>()) as usize
    }
}

/// Counts something that does not reach userspace.
#[inline(always)]
pub(crate) fn lose(reason: Loss) {
    if let Some(count) = LOSSES.get_ptr_mut(reason as u32) {
        // SAFETY: a valid pointer into this CPU's own slot; programs of one CPU may interrupt
        // each other, so a plain increment could lose one, an atomic one cannot.
        unsafe { add_u64(count, 1) };
    }
}

/// Before userspace sets them.
pub(crate) const ZERO_OFFSETS: Offsets = Offsets {
    sock_dport: 0,
    sock_family: 0,
    sock_state: 0,
    sock_net: 0,
    sock_daddr: 0,
    sock_v6_daddr: 0,
    sock_protocol: 0,
    sock_err: 0,
    sock_err_soft: 0,
    sock_shutdown: 0,
    net_inum: 0,
    tcp_timeouts: 0,
    tcp_lrcvtime: 0,
    tcp_lsndtime: 0,
    tcp_bytes_received: 0,
    tcp_srtt_us: 0,
    tcp_packets_out: 0,
    tcp_snd_una: 0,
    tcp_snd_nxt: 0,
    tcp_total_retrans: 0,
    socket_sk: 0,
    task_tgid: 0,
    task_pid: 0,
    task_comm: 0,
    task_flags: 0,
    task_nsproxy: 0,
    nsproxy_net_ns: 0,
};

const _: () = assert!(
    size_of::<Record>() % 8 == 0,
    "ring records are 8-byte aligned"
);
