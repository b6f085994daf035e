//! The kernel half, from userspace: load it, attach it, read it.
//!
//! Nothing here knows what a record means for a link; that is [`crate::link`]'s.

mod attach_types;
pub mod btf;
mod connect_hooks;
mod error;
pub mod hooks;
mod inventory;
mod iterators;
mod load;
mod loaded;
mod log;
mod maps;
mod missed_events;
mod offsets;
mod pins;
mod records;
pub mod refusal;
mod rings;
mod sample;
mod sources;
mod succession;
mod tick;
mod totals;
pub mod tracefs;
mod version;

pub use statlink_ebpf::{COMM_LEN, COMMS, Connection, LossReason, Record, RecordKind, Source};

pub use self::{
    connect_hooks::{ConnectHook, ConnectSeen},
    error::{KernelError, Missing},
    hooks::Way,
    inventory::{Inventory, LISTING_SETTLES, Listing},
    iterators::OpenFiles,
    load::Watch,
    loaded::{HookState, Kernel},
    pins::{Before, PinsError, Told, Unfit, Uninstalled, try_to_pin_in, uninstall},
    records::{attempted, connection_id, heard, peer},
    sample::Look,
    succession::Pinning,
    totals::{Ends, SourceTotals},
    version::KernelVersion,
};
