//! The state machine that the agent's loop drives, for one peer or for several at a time.

use std::{net::SocketAddr, time::Duration};

use crate::time::Timestamp;
use crate::{Cause, ConnectionId, Counts, Input, Legacy, Output, Progress, State};

/// A state machine between one process and one peer.
///
/// [`Link`](crate::Link) documents who calls what, and when.
pub trait LinkMachine: Send {
    /// Applies one input, which became true at `at`.
    fn handle(&mut self, at: Timestamp, input: Input, outputs: &mut Vec<Output>);

    /// When to call [`on_deadline`](Self::on_deadline) next; `None` while nothing is due.
    fn next_deadline(&self) -> Option<Timestamp>;

    /// Does what is due by `now`. An early call does nothing.
    fn on_deadline(&mut self, now: Timestamp, outputs: &mut Vec<Output>);

    /// Its state now.
    fn state(&self) -> State;

    /// Why it has never been reachable; `None` if it has. [`Input::FollowsUnreached`] passes this
    /// to the pod's next life.
    fn never_reachable(&self) -> Option<Cause>;

    /// What a successor of the agent needs to know of it, to be passed as [`Input::Inherited`].
    fn legacy(&self) -> Legacy;

    /// How far it has come with what it was told: of a successor that reads the same kernel half the rest
    /// is to be counted.
    fn progress(&self) -> Progress;

    /// Its counts since the discovery.
    fn counts(&self) -> Counts;

    /// The address that says most: of an unreachable target, or else of a live connection, or else
    /// of the last attempt.
    fn peer_address(&self) -> Option<SocketAddr>;

    /// One live connection to each address that has one.
    fn live(&self) -> Vec<ConnectionId>;

    /// Smoothed round-trip time of the live connection; the longest of several.
    fn rtt(&self) -> Option<Duration>;

    /// When the peer was last heard; of several addresses, the one silent for longest.
    fn heard(&self) -> Option<Timestamp>;
}
