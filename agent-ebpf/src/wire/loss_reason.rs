//! Why something did not reach userspace, and whom the loss concerns.

/// Why something did not reach userspace: the index into the per-CPU array `LOSSES`.
///
/// Losses of clients: tracked sources, and processes of a watched name. Losses of neighbours, the
/// other processes in a client's network namespace, only leave a failure unexplained. Nothing is
/// kept of anybody else, so nothing of theirs can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LossReason {
    /// A client's record: the ring was full.
    RingFull = 0,
    /// A client's open connection: its quota was full.
    ConnectionsFull = 1,
    /// A candidate: there was no room for its counts.
    TotalsFull = 2,
    /// A client's connect() call: its quota was full.
    CallsFull = 3,
    /// A neighbour's record: their ring was full.
    NeighbourRingFull = 4,
    /// A neighbour's open connection: the quota of the neighbours in its namespace was full.
    NeighbourConnectionsFull = 5,
    /// A neighbour's connect() call: as above.
    NeighbourCallsFull = 6,
    /// The record of an execution: the ring was full. Its process may be a new client.
    ExecutionLost = 7,
}

impl LossReason {
    /// Every reason, in index order.
    pub const ALL: [Self; 8] = [
        Self::RingFull,
        Self::ConnectionsFull,
        Self::TotalsFull,
        Self::CallsFull,
        Self::NeighbourRingFull,
        Self::NeighbourConnectionsFull,
        Self::NeighbourCallsFull,
        Self::ExecutionLost,
    ];

    /// The number of reasons.
    pub const COUNT: u32 = 8;

    /// Whether the counts are still right: the loss is in the totals, or counts for nobody.
    pub const fn spares_counts(self) -> bool {
        match self {
            Self::ConnectionsFull | Self::TotalsFull | Self::CallsFull => false,
            Self::RingFull
            | Self::NeighbourRingFull
            | Self::NeighbourConnectionsFull
            | Self::NeighbourCallsFull
            | Self::ExecutionLost => true,
        }
    }

    /// The reason's name as a metric attribute.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::ConnectionsFull => "connections_full",
            Self::TotalsFull => "totals_full",
            Self::CallsFull => "calls_full",
            Self::NeighbourRingFull => "neighbour_ring_full",
            Self::NeighbourConnectionsFull => "neighbour_connections_full",
            Self::NeighbourCallsFull => "neighbour_calls_full",
            Self::ExecutionLost => "execution_lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reasons_stand_at_their_own_index() {
        for (index, reason) in LossReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
        }
        assert_eq!(LossReason::ALL.len(), LossReason::COUNT as usize);
    }
}
