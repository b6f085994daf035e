//! Bounds of what a link remembers, and why they suffice: memory is bounded whatever a client does.

/// Connections that are tracked at a time. A client has one, and a second while it dials again. It
/// has this many open only if it leaks them, or dials faster than its ends are read. Beyond that,
/// the oldest one that is not live is decided as if its end had been lost.
pub(crate) const CONNECTIONS: usize = 1024;
/// Ended connections that are remembered one by one, so that a repeated or late record changes
/// nothing; older ones are recognised by their birth. Without a peer, a client dials 20 times in
/// its first minute, so this covers 12 minutes and more.
pub(crate) const TOMBSTONES: usize = 256;
/// Targets of a fan-out that are kept, and ended ones that are remembered. Knative has ten buckets
/// at most, and two addresses for the owner of each.
pub(crate) const TARGETS: usize = 64;
/// A proxy's current attempts, and failures, that are remembered. They explain what happens within
/// a second; a proxy that dials 64 times in a second is itself broken.
pub(crate) const PROXIED: usize = 64;
/// Failed attempts in an event of an outage: enough to see whether they fail alike, and still one
/// line.
pub const ATTEMPTS_REPORTED: usize = 3;
/// Missed failures of each kind that are reported one by one. They say no more than their cause,
/// and there may be millions; the counts include them all.
pub(crate) const HISTORY_REPORTED: u32 = 16;
