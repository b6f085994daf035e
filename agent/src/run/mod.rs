//! The running agent: the loop that feeds the links, and the modules around it.
//!
//! Nothing here decides about a link: [`crate::link`] does. An event's way through this module:
//!
//! ```text
//! kernel record -> routing -> registry (which link) -> link -> outputs -> publish
//! ```
//!
//! | to find | look in |
//! |---|---|
//! | how `statlink run` starts and stops | `wiring`; while another agent is at work: `standby` |
//! | what wakes the loop, and in which order it works | `event_loop` |
//! | the links, and the sources that are tracked for them | `registry` |
//! | the counts of a pod, beyond the life of one process | `ledger` |
//! | what the agent leaves to a successor | `event_loop::succession`; which links have changed: `unsaved` |
//! | which links a record concerns, and its input for them | `routing` |
//! | what happens after records were lost, and at discovery | `reconcile`; what a link is owed: `owed`; whether all of its connections are known: `completeness`; whether they bypass TCP: `bypass` |
//! | what is logged, recorded and exported of an event | `publish` |
//! | what a snapshot holds | `snapshot` |
//! | when an export is made | `export` |

mod bypass;
mod completeness;
mod event_loop;
mod export;
mod ledger;
mod owed;
mod publish;
mod reconcile;
mod registry;
mod routing;
mod snapshot;
mod standby;
mod unsaved;
mod wiring;

pub(crate) use self::wiring::run;
