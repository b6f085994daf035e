//! Why the last HTTP request failed: the SDK says only that it did.

use std::{error::Error, sync::Arc};

use arc_swap::ArcSwapOption;

use crate::chain::chain;

/// Shared between the HTTP client, which knows, and the log line, which tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reason(Arc<ArcSwapOption<String>>);

impl Reason {
    /// Remembers `error` and all that caused it.
    pub(super) fn note(&self, error: &(dyn Error + 'static)) {
        self.0.store(Some(Arc::new(chain(error))));
    }

    /// The last reason, once.
    pub(super) fn take(&self) -> Option<Arc<String>> {
        self.0.swap(None)
    }
}
