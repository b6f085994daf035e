//! Thresholds and sizes, each with its reason. Times are nanoseconds of `CLOCK_MONOTONIC`, never
//! ticks, whose length differs from kernel to kernel.

use crate::{decide::Quota, wire::Place};

/// How long a connection must stay open after the peer's first answer to count as held.
///
/// A client closes at once when its upgrade is refused, so a connection that is held open was not
/// refused. 250 ms is well above the time a client needs to read a refusal and close, and well
/// below the 3.33 s between two pings, so a link is known to be up before its first ping.
pub const HOLD_NS: u64 = 250 * NS_PER_MS;

/// How soon after the peer's last data an end counts as the answer to the peer's close.
///
/// A websocket server announces its close in a close frame, and the client answers at once. Then it
/// depends on who is faster: the client's FIN may overtake the server's, and a server that closes
/// with the answer unread resets instead (`tcp_close()`, `net/ipv4/tcp.c`). Both are the peer's
/// close, and both happen within a round trip (a few milliseconds within a region) plus the time
/// until a busy machine schedules both programs. 30 ms covers these. It is also 1 % of the 3.33 s
/// between two pongs, so an end unrelated to the peer's last data seldom falls into it.
///
/// The kernel dates that data to its tick, 1 to 10 ms, so an end up to one tick before or after the
/// limit may be misjudged.
pub const CLOSE_ANSWER_NS: u64 = 30 * NS_PER_MS;

/// How many retransmission timeouts in a row make unacknowledged data a stall.
///
/// The loss of one segment and its tail-loss probe leads to one timeout. A second one, at twice the
/// interval, needs a path that drops everything.
pub const STALL_TIMEOUTS: u8 = 2;

/// The shortest time between two records of a source's name lookups.
///
/// Lookups come in bursts of 2 to 7, for each search domain and both address families, within
/// milliseconds; two dials are at least 100 ms apart. So each dial's lookups are recorded once.
pub const LOOKUP_PACE_NS: u64 = 100 * NS_PER_MS;

/// The port of name servers.
pub const NAME_SERVER_PORT: u16 = 53;

/// Size of the ring of clients, a power of two: 1,638 records of 80 bytes, header included. That is
/// 160 ms at 10,000 records a second; the reader wakes within a few milliseconds.
pub const RING_BYTES: u32 = 128 * 1024;

/// Size of the ring of clients' neighbours, a power of two: 409 records. A sidecar makes three
/// records for each dial, so the ring holds a hundred dials. The reader is woken when it is half
/// full, and only explanations are lost when it is full.
pub const NEIGHBOUR_RING_BYTES: u32 = 32 * 1024;

/// Sources that userspace can track at a time: room for 256 links on a node. statlink promises 200,
/// and Kubernetes allows 110 pods by default.
pub const TRACKED_SOURCES: u32 = 256;

/// Candidates that are remembered: processes of a watched name that userspace does not know yet.
/// Userspace learns of each within milliseconds of its exec, so this is for times when it cannot
/// listen.
pub const CANDIDATES: u32 = 128;

/// Candidates of one network namespace. A pod has one client; a crash-looping container has a few,
/// until userspace has looked for ended processes.
pub const CANDIDATES_OF_A_NAMESPACE: u32 = 4;

/// Candidates of one control group. A container can make network namespaces, but cannot leave its
/// control group, so exhausting [`CANDIDATES`] takes eight containers that cooperate.
pub const CANDIDATES_OF_A_CGROUP: u32 = 16;

/// All sources, 368 bytes each: the tracked ones and the candidates.
pub const SOURCES: u32 = TRACKED_SOURCES + CANDIDATES;

/// Network namespaces of clients, whose neighbours are watched: each client may have its own.
pub const NAMESPACES: u32 = TRACKED_SOURCES;

/// Quotas of candidates that are counted: a namespace and a control group for each.
pub const CANDIDATE_QUOTAS: u32 = 2 * CANDIDATES;

/// Open connections of one source. An activator holds one and sometimes dials another, over two
/// families at once; a forwarder holds one for each of ten buckets' owners. 64 are far more than
/// either needs, and three sources that leak do not take all shared places.
pub const CONNECTIONS_OF_A_SOURCE: Quota = Quota {
    reserved: 3,
    shared: 61,
    all_shared: 192,
    from: Place::Shared,
};

/// The same for a candidate: reserved places only.
pub const CONNECTIONS_OF_A_CANDIDATE: Quota = Quota {
    shared: 0,
    ..CONNECTIONS_OF_A_SOURCE
};

/// Open connections of the neighbours in one namespace. A sidecar holds one for the client's
/// connection, and a few while it dials again.
pub const CONNECTIONS_OF_NEIGHBOURS: Quota = Quota {
    reserved: 2,
    shared: 14,
    all_shared: 64,
    from: Place::NeighboursShared,
};

/// Threads of one source that may be inside connect() to the watched port at a time. Go's connect()
/// does not block: two are one dial over two families.
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

/// The same for the neighbours in one namespace: a sidecar's dials do not block either, and more
/// than a few at one instant are not a sidecar's.
pub const CALLS_OF_NEIGHBOURS: Quota = Quota {
    reserved: 0,
    shared: 4,
    all_shared: 64,
    from: Place::NeighboursShared,
};

/// By how many places the quotas may be exceeded: each CPU that asks at the same moment may get the
/// last place. That far more CPUs ask within the same 100 ns does not happen.
pub const RACES: u32 = 64;

/// All open connections, 120 bytes each with the kernel's overhead: at least the sum of all quotas,
/// 3 for each source, 2 for each namespace, the shared ones, and [`RACES`]: 1,984.
pub const CONNECTIONS: u32 = 2048;

/// All connect() calls under way: at least the sum of all quotas, 2 for each source, the shared
/// ones, and [`RACES`].
pub const CALLS: u32 = 1024;

/// For the times above.
const NS_PER_MS: u64 = 1_000_000;
