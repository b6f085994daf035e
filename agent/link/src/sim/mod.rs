//! A model of a process, its peers, the network and the kernel half on a virtual clock, with faults
//! drawn from a seed. It knows the truth, and holds a machine to it.
//!
//! A failure names its seeds. `STATLINK_SIM_SEEDS=<seed>` runs that life alone, and
//! `STATLINK_SIM_SEEDS=0..20000` many more than the tests do, which takes minutes.
//!
//! The clock, chance and the ring of records, which come late, twice or never, are in `world`; a
//! client and its path in `client`, its connection in `socket`, what is true of it in `truth`; the
//! driver of a machine in `life`. What only a link, one whose agent is replaced, or a fan-out does and is
//! held to is in `link`, `replaced` and `fanout`.

mod client;
mod fanout;
mod life;
mod link;
mod replaced;
mod socket;
mod truth;
mod world;
