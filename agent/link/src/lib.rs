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
//! So there is one place for the question "what does the kernel's record mean for a connection",
//! and one for "what does that mean for the link". Each owns its fields; [`Link`] only connects
//! them.
//!
//! # What is where
//!
//! Each file uses only files above it in this list.
//!
//! The crate's interface:
//!
//! - `time`: the one clock, which nothing here reads.
//! - `closed_list`: enums whose values are attributes of a metric.
//! - `check`: the kinds of checks.
//! - `cause`: the causes, the meaning of an end, and the causes that each kind of check can have.
//! - `counts`: the counts of a link.
//! - `unknown`: why a link's state is unknown.
//! - `input`: inputs, and the values in them.
//! - `event`: events, in the one form that logs and `statlink events` share.
//! - `output`: what a link asks its driver to do.
//! - `state`: the state of a link at one instant.
//! - `legacy`: what an agent leaves of a link to its successor.
//! - `machine`: [`LinkMachine`], what the agent's loop drives.
//!
//! The numbers:
//!
//! - `timings`: every timing, with its reason and source.
//! - `limits`: the bounds of what a link remembers, and why they suffice.
//!
//! Connections:
//!
//! - `address_check`: whether a connection goes to the right address.
//! - `connection`: one connection, from its first record to the verdict on its end; in it `ending`
//!   (what an end means), `ended` (when that is decided), `handshake` (a connection before it is
//!   upgraded), `pulse` (when silence is a stall), `open` (what an open one waits for, what a look
//!   shows).
//! - `finding`: what is certain about a connection.
//! - `races`: several connect()s of one dial, of which one wins.
//! - `tombstones`: connections that are over, so that a repeated record changes nothing.
//! - `table`: all connections, and those that are over.
//! - `connections`: turns inputs into findings; in it `verdicts` (what steps and ends mean).
//! - `resync`: matches the table with a listing and with missed ends.
//!
//! The link:
//!
//! - `outage_history`: what the events at both ends of an outage report.
//! - `reachability`: how outages begin and end, for one link and for several together.
//! - `proxies`: what a proxy's connections explain.
//! - `blame`: which cause is shown if there are several.
//! - `lookups`: when failing name lookups are the cause.
//! - `target`: when a target is over.
//! - `assessment`: what findings mean: counts, liveness, outages; in it `consequences` (what
//!   follows from a finding) and `due` (deadlines).
//! - `link`: [`Link`], which connects connections and assessment; in it `due` (which deadline is
//!   next).
//!
//! Several links:
//!
//! - `fanout`: [`Fanout`], a link to each address that a process dials.
//! - `shape`: which of the two a kind of link has.

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
pub use input::{
    ConnectionId, CountedConnection, Input, MissedEnds, OpenConnection, Progress, ProxyEvent,
    Sample,
};
pub use legacy::{Legacy, OutageUnderWay};
pub use limits::ATTEMPTS_REPORTED;
pub use link::Link;
pub use machine::LinkMachine;
pub use output::Output;
pub use shape::Shape;
pub use state::State;
pub use timings::DOUBT;
pub use unknown::UnknownReason;
