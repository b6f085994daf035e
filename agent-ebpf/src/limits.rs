//! Thresholds and sizes, each with its reason. Times are nanoseconds of `CLOCK_MONOTONIC`; nothing
//! is counted in the kernel's ticks, whose length differs from kernel to kernel.

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

/// Size of the ring, a power of two: 1,638 records of 80 bytes, header included. That is 160 ms of
/// 10,000 records a second; the reader wakes within a few.
pub const RING_BYTES: u32 = 128 * 1024;

/// Sources that userspace can track at a time, 336 bytes each. An activator in a network namespace of
/// its own takes two: itself, and its namespace for the proxy in it. So 128 of them on a node, where
/// Kubernetes stops at 110 pods unless told otherwise.
pub const TRACKED_SOURCES: u32 = 256;

/// Open connections of tracked sources. An activator holds one at a time; a fan-out of an
/// autoscaler up to one for each other autoscaler. Four a source leaves room for dials under way.
pub const TRACKED_CONNECTIONS: u32 = 4 * TRACKED_SOURCES;

/// Untracked sources that are remembered; the least recently used makes room. As many as tracked
/// ones: each pod of a full node may start at once, before userspace has heard of any.
pub const UNTRACKED_SOURCES: u32 = TRACKED_SOURCES;

/// Open connections of untracked sources that are remembered; the least recently used makes room.
pub const UNTRACKED_CONNECTIONS: u32 = TRACKED_CONNECTIONS;

/// Threads that can be inside connect() to the watched port at a time: one for each tracked source,
/// and as many others.
pub const CONNECT_CALLS: u32 = 2 * TRACKED_SOURCES;

/// For the times above.
const NS_PER_MS: u64 = 1_000_000;
