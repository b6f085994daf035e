//! How much a link remembers at most, and why that is enough: memory is bounded whatever a client
//! does.

/// Connections that are tracked at a time. A client has one, and a second while it dials anew;
/// this many are open at once only if it leaks, or dials faster than its ends are read. Beyond, the
/// oldest one that is not live is decided as if its end had been lost.
pub(crate) const CONNECTIONS: usize = 1024;
/// Connections that are over and remembered one by one, so that a record which comes twice or late
/// is no news; older ones are known by their birth. A client dials 20 times in its first minute
/// without a peer, so this is what a quarter of an hour brings.
pub(crate) const TOMBSTONES: usize = 256;
/// Targets of a fan-out that are kept, and that are over and remembered. Knative has ten buckets at
/// most, and two addresses for the owner of each.
pub(crate) const TARGETS: usize = 64;
/// A proxy's attempts under way, and its failures, that are remembered. They explain what happens
/// within a second; a proxy that dials 64 times in it is out of order itself.
pub(crate) const PROXIED: usize = 64;
/// Failed attempts that an event of an outage shows: enough to see whether they fail alike, and
/// still a line.
pub const ATTEMPTS_REPORTED: usize = 3;
/// Failures of each kind that were missed and are reported one by one. They say no more than
/// their cause, and there may be millions; the counts have them all.
pub(crate) const HISTORY_REPORTED: u32 = 16;
