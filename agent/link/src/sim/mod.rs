//! A model of a process, its peers, the network and the kernel half on a virtual clock, with faults
//! drawn from a seed. It knows the truth, and compares a machine with it.
//!
//! A failure names its seed. `STATLINK_SIM_SEEDS=<seed>` runs only that life;
//! `STATLINK_SIM_SEEDS=0..20000` runs many more than the tests do, which takes minutes.
//!
//! `world` has the clock, chance and the ring, whose records come late, twice or never; `client` a
//! client and its path, `socket` its connection, `truth` the truth about it; `life` the driver of a
//! machine. `link`, `replaced` and `fanout` have what is special to a link, to one whose agent is
//! replaced, and to a fan-out.

mod client;
mod fanout;
mod life;
mod link;
mod replaced;
mod socket;
mod truth;
mod world;
