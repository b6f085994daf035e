//! The state machine of one link: facts and time in, outcomes out.

mod cause;
mod check;

pub use cause::Cause;
pub use check::{CheckKind, Counts};
