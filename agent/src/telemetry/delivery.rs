//! The result of one export.

/// The result of one export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Whether the Collector accepted it.
    pub arrived: bool,
    /// Whether it showed zeros instead of a pod's counts. If it arrived, another export is due at
    /// once.
    pub withheld: bool,
}
