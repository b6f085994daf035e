//! One file per hook.
//!
//! Above each entry function: the kernel's prototype, its source, since when it is there, why
//! this hook, and what holds in it. Sources are those of Linux 6.12.

mod connect;
mod destroy;
mod enumerate;
mod execute;
mod namespaces;
mod retransmit;
mod sample;
mod state;
