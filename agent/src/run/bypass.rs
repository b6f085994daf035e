//! Connections that bypass TCP: a sockmap moves their data straight from one socket's queue to the
//! other's, as some service meshes do between pods of one node, and TCP counts none of it.
//!
//! On such a connection the peer seems never to answer. That is no evidence against it: while the
//! connection is open, its link gets no samples of it and is told that evidence is missing.

use std::collections::BTreeSet;

use crate::link::{ConnectionId, Input, UnknownReason};

/// The bypassed connections of one link.
#[derive(Debug, Default)]
pub(super) struct Bypass(BTreeSet<ConnectionId>);

impl Bypass {
    /// A look at `connection` found it `bypassed`, or not. Returns an input for the link if that
    /// changes anything.
    pub(super) fn looked(&mut self, connection: ConnectionId, bypassed: bool) -> Option<Input> {
        if !bypassed {
            return self.ended(connection);
        }
        let first = self.0.is_empty();
        self.0.insert(connection);
        first.then_some(Input::EvidenceLost(UnknownReason::Bypassed))
    }

    /// `connection` has ended. Returns an input for the link if that changes anything.
    pub(super) fn ended(&mut self, connection: ConnectionId) -> Option<Input> {
        let last = self.0.remove(&connection) && self.0.is_empty();
        last.then_some(Input::EvidenceBack(UnknownReason::Bypassed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::connection_id;

    #[test]
    fn a_link_is_told_of_the_first_and_of_the_last_connection_that_is_bypassed() {
        let (one, other) = (connection_id(0xA, 1), connection_id(0xB, 2));
        let mut bypass = Bypass::default();
        assert_eq!(bypass.looked(one, false), None);
        let lost = Some(Input::EvidenceLost(UnknownReason::Bypassed));
        assert_eq!(bypass.looked(one, true), lost);
        assert_eq!(bypass.looked(one, true), None);
        assert_eq!(bypass.looked(other, true), None);
        assert_eq!(bypass.ended(one), None);
        let back = Some(Input::EvidenceBack(UnknownReason::Bypassed));
        assert_eq!(bypass.looked(other, false), back);
        assert_eq!(bypass.ended(other), None);
    }
}
