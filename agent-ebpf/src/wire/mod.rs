//! The interface between the kernel half and userspace.
//!
//! All types are `repr(C)`, without implicit padding and without invalid bit patterns: userspace
//! may read any bytes as any of them. Bytes that stand for an enumeration are decoded with a typed
//! error ([`DecodeError`]).

mod connection;
mod decode;
mod end;
pub mod errno;
mod loss_reason;
mod offsets;
mod process;
mod record;
mod room;
mod sample;
mod totals;
mod tracking;
#[cfg(feature = "user")]
mod user;

pub use connection::{ConnectCall, Connection};
pub use decode::DecodeError;
pub use end::{ENDS, End, PHASES, Phase};
pub use loss_reason::LossReason;
pub use offsets::Offsets;
pub use process::{COMM_LEN, COMMS, KTHREADD, Process};
pub use record::{Record, RecordKind};
pub use room::{Held, Neighbourhood, Place, Room};
pub use sample::Sample;
pub use totals::{Source, Standing, Totals};
pub use tracking::{Order, answer};
