//! The control socket: how `statlink status` and `statlink events` ask the running agent.
//!
//! A Unix stream socket that only the agent's own user can open. [`wire`] defines the protocol,
//! [`server`] is the agent's side, [`client`] the commands'.

pub(crate) mod client;
pub(crate) mod server;
pub(crate) mod status;
pub(crate) mod wire;
