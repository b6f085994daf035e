//! Thresholds and sizes, each with its reason. Times are nanoseconds of `CLOCK_MONOTONIC`; nothing
//! is counted in the kernel's ticks, whose length differs from kernel to kernel.

use crate::{decide::Quota, wire::Place};

/// How long a connection must stay open after the peer's first answer to count as held.
///
/// A client closes at once when its upgrade is refused, so holding on is the evidence that it was
/// not. 250 ms is well above the time a client takes to read a refusal and close, and well below
/// the 3.33 s between two pings, so that a link is known to be up before its first ping.
pub const HOLD_NS: u64 = 250 * NS_PER_MS;

/// How soon after the peer's last word an end counts as the answer to the peer's close.
///
/// A websocket's server says in a close frame that it closes, and the client answers at once. What
/// follows depends on who is quicker: the client's FIN may overtake the server's, and a server that
/// closes with the answer unread resets instead (`tcp_close()`, `net/ipv4/tcp.c`). Both are the
/// peer's close, and both happen within a round trip (a few milliseconds within a region) and the
/// time that both programs take to be scheduled on a busy machine. 30 ms covers these. It is also
/// 1 % of the 3.33 s between two pongs, so an end that has nothing to do with the peer's last word
/// seldom falls in it.
///
/// The kernel dates the last word to its tick, 1 to 10 ms: an end up to one tick earlier or later
/// may be taken for the other.
pub const CLOSE_ANSWER_NS: u64 = 30 * NS_PER_MS;

/// Retransmission timeouts in a row after which unacknowledged data means a stall.
///
/// One timeout follows the loss of a single segment and its tail-loss probe; a second one, at twice
/// the interval, takes a path that drops everything.
pub const STALL_TIMEOUTS: u8 = 2;

/// How often a source's name lookups are recorded, at most.
///
/// Lookups come in bursts of 2 to 7, for each search domain and both address families, within
/// milliseconds; two dials are at least 100 ms apart. So each dial's lookups are recorded once.
pub const LOOKUP_PACE_NS: u64 = 100 * NS_PER_MS;

/// The port of name servers.
pub const NAME_SERVER_PORT: u16 = 53;

/// Size of the ring of clients, a power of two: 1,638 records of 80 bytes, header included. That is
/// 160 ms of 10,000 records a second; the reader wakes within a few.
pub const RING_BYTES: u32 = 128 * 1024;

/// Size of the ring of clients' neighbours, a power of two: 409 records. A sidecar that dials anew
/// makes three records a dial, so it holds what a hundred dials leave; the reader is woken when it is
/// half full, and only explanations are lost beyond.
pub const NEIGHBOUR_RING_BYTES: u32 = 32 * 1024;

/// Sources that userspace can track at a time: 256 links on a node, where 200 are promised and
/// Kubernetes stops at 110 pods unless told otherwise.
pub const TRACKED_SOURCES: u32 = 256;

/// Candidates that are remembered: processes of a watched name of which userspace has not heard yet.
/// It hears of each within milliseconds of its execution, so this is for when it cannot listen.
pub const CANDIDATES: u32 = 128;

/// Candidates of one network namespace. A pod has one client; a container that crashes and starts
/// again has a few until userspace has looked for ended processes.
pub const CANDIDATES_OF_A_NAMESPACE: u32 = 4;

/// Candidates of one control group, which a container cannot leave, while it can make network
/// namespaces: so it takes eight containers that conspire to exhaust [`CANDIDATES`].
pub const CANDIDATES_OF_A_CGROUP: u32 = 16;

/// Sources in all, 368 bytes each: those that are tracked, and candidates beside them.
pub const SOURCES: u32 = TRACKED_SOURCES + CANDIDATES;

/// Network namespaces of clients, whose neighbours are watched: each client may have its own.
pub const NAMESPACES: u32 = TRACKED_SOURCES;

/// Quotas of candidates that are counted: a namespace and a control group for each.
pub const CANDIDATE_QUOTAS: u32 = 2 * CANDIDATES;

/// Open connections of one source. An activator holds one and dials another at times, by two families
/// at once; a forwarder holds one for each of ten buckets' owners. 64 at most are far more than either
/// needs, and three that leak do not take all that is shared.
pub const CONNECTIONS_OF_A_SOURCE: Quota = Quota {
    reserved: 3,
    shared: 61,
    all_shared: 192,
    from: Place::Shared,
};

/// The same of a candidate: what is its own, nothing that is shared.
pub const CONNECTIONS_OF_A_CANDIDATE: Quota = Quota {
    shared: 0,
    ..CONNECTIONS_OF_A_SOURCE
};

/// Open connections of the neighbours in one namespace. A sidecar holds one for the client's, and a
/// few while it dials anew.
pub const CONNECTIONS_OF_NEIGHBOURS: Quota = Quota {
    reserved: 2,
    shared: 14,
    all_shared: 64,
    from: Place::NeighboursShared,
};

/// Threads of one source that can be inside connect() to the watched port at a time. Go's connect()
/// does not block: two are a dial by two families.
pub const CALLS_OF_A_SOURCE: Quota = Quota {
    reserved: 2,
    shared: 30,
    all_shared: 128,
    from: Place::Shared,
};

/// The same of a candidate.
pub const CALLS_OF_A_CANDIDATE: Quota = Quota {
    shared: 0,
    ..CALLS_OF_A_SOURCE
};

/// The same of the neighbours in one namespace: a sidecar's dials do not block either, and more than
/// a few at the same instant are no sidecar's.
pub const CALLS_OF_NEIGHBOURS: Quota = Quota {
    reserved: 0,
    shared: 4,
    all_shared: 64,
    from: Place::NeighboursShared,
};

/// By how many the quotas may be exceeded: each CPU that asks at the same moment may get the last
/// place. Far more CPUs do not ask within the same 100 ns.
pub const RACES: u32 = 64;

/// Open connections in all, 120 bytes each with the kernel's own: no less than all quotas add up to,
/// 3 for each source and 2 for each namespace, those that are shared, and [`RACES`]: 1,984.
pub const CONNECTIONS: u32 = 2048;

/// connect() calls under way in all: what all quotas add up to, 2 for each source, those that are
/// shared, and [`RACES`].
pub const CALLS: u32 = 1024;

/// For the times above.
const NS_PER_MS: u64 = 1_000_000;
