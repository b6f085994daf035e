//! The state machine of one link: inputs and time in, outputs out.
//!
//! It reads no clock, does no I/O, logs nothing and draws no random number; its
//! [driver](Link#who-calls-what) does. The same inputs at the same times give the same result.
//!
//! [`Link`] holds the contract. Inside, an [`Input`] takes two steps, and no step knows the next:
//!
//! ```text
//!            connections: which there are,         assessment: what does it
//!   Input ─▶ and what is certain about them ─▶     count, blame, begin or end? ─▶ Output
//!                                          Finding
//! ```
//!
//! So there is one place to look for "what does the kernel's record mean for a connection", and one
//! for "what does that mean for the link". Each owns its fields; [`Link`] only passes on.
//!
//! # What is where
//!
//! Each file uses files above it in this list, and none below.
//!
//! What crosses the border of the crate:
//!
//! - `time`: the one clock, which nothing here reads.
//! - `closed_list`: enums whose values are attributes of a metric.
//! - `check`: what a check is.
//! - `cause`: which causes there are, what an end means, what a check of each kind can end with.
//! - `counts`: what is counted.
//! - `unknown`: why the agent cannot tell.
//! - `input`: what goes into a link, and the values that inputs carry.
//! - `event`: what happens to a link, in the one form that logs and `statlink events` share.
//! - `output`: what a link asks its driver to do.
//! - `state`: what a link is at one instant.
//! - `legacy`: what an agent leaves of a link to its successor.
//! - `machine`: [`LinkMachine`], what the agent's loop drives.
//!
//! The numbers:
//!
//! - `timings`: every timing, with its reason and source.
//! - `limits`: how much is remembered at most, and why that is enough.
//!
//! Connections:
//!
//! - `address_check`: whether a connection goes to the right address.
//! - `connection`: one connection, from its first record until it is decided what its end comes to;
//!   in it `ending` (what an end comes to), `ended` (when it does), `handshake` (how far it has come
//!   before it is upgraded), `pulse` (when silence is a stall), `open` (what an open one waits for,
//!   what a look shows).
//! - `finding`: what is certain about a connection.
//! - `races`: several connect()s of one dial, of which one wins.
//! - `tombstones`: those that are over, so that a record which comes twice is no news.
//! - `table`: all that there are, and that were.
//! - `connections`: turns inputs about them into findings; in it `verdicts` (what steps and ends
//!   come to).
//! - `resync`: matching the table with a listing, and with ends that were missed.
//!
//! The link:
//!
//! - `outage_history`: what the events at both ends of an outage say of it.
//! - `reachability`: how outages begin and end, for one link and for several together.
//! - `proxies`: what a proxy's connections explain.
//! - `blame`: which cause is shown, if there are several.
//! - `lookups`: when failing name lookups are the cause.
//! - `target`: when a target is over.
//! - `assessment`: what findings mean: counts, liveness, outages; in it `consequences` (what follows
//!   from a finding) and `due` (what falls due by itself).
//! - `link`: [`Link`], the composer of connections and assessment; in it `due` (what falls due
//!   first).
//!
//! Several links:
//!
//! - `fanout`: [`Fanout`], a link to each address that a process dials.
//! - `shape`: which of both a kind of link has.

#![forbid(unsafe_code)]
// Tests may print a seed.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod time;

mod address_check;
mod assessment;
mod blame;
mod cause;
mod check;
mod closed_list;
mod connection;
mod connections;
mod counts;
mod event;
mod fanout;
mod finding;
mod input;
mod legacy;
mod limits;
mod link;
mod lookups;
mod machine;
mod outage_history;
mod output;
mod proxies;
mod races;
mod reachability;
mod resync;
mod shape;
mod state;
mod table;
mod target;
mod timings;
mod tombstones;
mod unaccounted;
mod unknown;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

pub use cause::Cause;
pub use check::CheckKind;
pub use counts::Counts;
pub use event::{EndedOutage, Event, EventKind, FailedAttempt};
pub use fanout::Fanout;
pub use input::{ConnectionId, Input, MissedEnds, OpenConnection, ProxyEvent, Sample};
pub use legacy::{Legacy, OutageUnderWay};
pub use limits::ATTEMPTS_REPORTED;
pub use link::Link;
pub use machine::LinkMachine;
pub use output::Output;
pub use shape::Shape;
pub use state::State;
pub use unknown::UnknownReason;
