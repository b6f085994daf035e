//! Of whom a successor may not know everything yet.

use std::collections::BTreeSet;

use super::registry::LinkId;
use crate::snapshot::SeriesName;

/// Of whom the memory may be behind.
#[derive(Default)]
pub(super) struct Unsaved {
    /// Links that were called.
    pub(super) links: BTreeSet<LinkId>,
    /// Pods of which a link has ended.
    pub(super) pods: BTreeSet<SeriesName>,
}
