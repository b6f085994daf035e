//! What the agent's loop drives: one peer at one address after the other, or several at a time.

use std::{net::SocketAddr, time::Duration};

use crate::time::Timestamp;
use crate::{Cause, ConnectionId, Counts, Input, Legacy, Output, State};

/// A state machine between one process and one peer.
///
/// Who calls what, and when, is the contract of [`Link`](crate::Link).
pub trait LinkMachine: Send {
    /// Takes in one input, that became true at `at`.
    fn handle(&mut self, at: Timestamp, input: Input, outputs: &mut Vec<Output>);

    /// When [`on_deadline`](Self::on_deadline) is to be called next; `None` while nothing is due.
    fn next_deadline(&self) -> Option<Timestamp>;

    /// Does what is due by `now`. Early, it does nothing.
    fn on_deadline(&mut self, now: Timestamp, outputs: &mut Vec<Output>);

    /// What it is now.
    fn state(&self) -> State;

    /// Why it has never been reachable; `None` if it has. What
    /// [`Input::FollowsUnreached`] hands on to the pod's next life.
    fn never_reachable(&self) -> Option<Cause>;

    /// What a successor of the agent has to know of it, to be handed in as
    /// [`Input::Inherited`].
    fn legacy(&self) -> Legacy;

    /// What it has counted since the discovery.
    fn counts(&self) -> Counts;

    /// The address that tells most: of what is not reachable, or else of a live connection, or
    /// else of the last attempt.
    fn peer_address(&self) -> Option<SocketAddr>;

    /// A live connection to each address that has one.
    fn live(&self) -> Vec<ConnectionId>;

    /// Smoothed round-trip time of the live connection; the longest of several.
    fn rtt(&self) -> Option<Duration>;

    /// When the peer was last heard; of several addresses, the one not heard for longest.
    fn heard(&self) -> Option<Timestamp>;
}
