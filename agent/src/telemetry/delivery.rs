//! What became of one export.

/// How one export went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Whether the Collector accepted it.
    pub arrived: bool,
    /// Whether it showed zeros in the place of what a pod has counted. If it arrived, another export is
    /// due at once.
    pub withheld: bool,
}
