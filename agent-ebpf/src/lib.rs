//! The types, limits and decisions on which statlink's kernel half and its userspace half must
//! agree.
//!
//! - [`wire`]: every map key, map value, ring record and `.rodata` constant, defined only here, so
//!   that both halves are compiled from the same text.
//! - [`limits`]: every threshold and size, each with its reason.
//! - [`decide`]: every decision of the kernel half, as functions that run and are tested on the
//!   host. The programs only fetch the facts.
//!
//! The programs themselves are this package's binaries, under `programs`. `statlink-link` decides
//! what a record *means* for a link.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod decide;
pub mod limits;
pub mod wire;

pub use limits::{CLOSE_ANSWER_NS, HOLD_NS, RING_BYTES, STALL_TIMEOUTS};
pub use wire::{
    COMM_LEN, COMMS, ConnectCall, Connection, DecodeError, ENDS, End, Held, KTHREADD, LossReason,
    Neighbourhood, Offsets, Order, PHASES, Phase, Place, Process, Record, RecordKind, Room, Sample,
    Source, Standing, Totals, answer,
};
