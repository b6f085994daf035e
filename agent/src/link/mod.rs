//! The state machine of one link: facts and time in, outcomes out.

mod cause;
mod check;

use crate::time::Timestamp;
pub use cause::Cause;
pub use check::{CheckKind, Counts};
use std::time::Duration;
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    pub sock: u64,
    pub born: Timestamp,
}
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub established: bool,
    pub heard: Option<Timestamp>,
    pub sent: Option<Timestamp>,
    pub unacknowledged: bool,
    pub timeouts: u8,
    pub rtt: Option<Duration>,
}
