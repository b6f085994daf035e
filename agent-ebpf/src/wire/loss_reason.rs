//! Why something did not reach userspace.

/// Why something did not reach userspace: the index into the per-CPU array `LOSSES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LossReason {
    /// The ring was full.
    RingFull = 0,
    /// A map of open connections was full.
    ConnectionsFull = 1,
    /// A map of totals was full.
    TotalsFull = 2,
    /// The map of connect() calls under way was full.
    CallsFull = 3,
}

impl LossReason {
    /// Every reason, in index order.
    pub const ALL: [Self; 4] = [
        Self::RingFull,
        Self::ConnectionsFull,
        Self::TotalsFull,
        Self::CallsFull,
    ];

    /// The number of reasons.
    pub const COUNT: u32 = 4;

    /// The reason's name as a metric attribute.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::ConnectionsFull => "connections_full",
            Self::TotalsFull => "totals_full",
            Self::CallsFull => "calls_full",
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
