//! The truth, to compare with the counts.

/// The truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Truth {
    pub(super) failed: u64,
    pub(super) upgraded: u64,
    /// Live connections that were lost, except to a stall.
    pub(super) closed: u64,
    pub(super) stalls: u64,
    /// connect()s that lost to another one of the same dial.
    pub(super) races_lost: u64,
    pub(super) ended_while_stalled: u64,
    /// Live connections that were closed as intended.
    pub(super) withdrawn: u64,
    /// Ends of live connections by this side, stalls and dials. If their record is lost, a loss may
    /// look like a withdrawal, or the reverse.
    pub(super) dubious: u64,
}

impl Truth {
    pub(super) fn add(&mut self, other: &Self) {
        self.failed += other.failed;
        self.upgraded += other.upgraded;
        self.closed += other.closed;
        self.stalls += other.stalls;
        self.races_lost += other.races_lost;
        self.ended_while_stalled += other.ended_while_stalled;
        self.withdrawn += other.withdrawn;
        self.dubious += other.dubious;
    }
}
