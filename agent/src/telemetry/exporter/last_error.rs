//! Why the last HTTP request failed. The SDK reports only that it did.

use std::{error::Error, sync::Arc};

use arc_swap::ArcSwapOption;

use crate::chain::chain;

/// Shared by the HTTP client, which knows the error, and the exporter, which logs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastError(Arc<ArcSwapOption<String>>);

impl LastError {
    /// Remembers `error` with its causes.
    pub(super) fn set(&self, error: &(dyn Error + 'static)) {
        self.0.store(Some(Arc::new(chain(error))));
    }

    /// `error`, with the last HTTP error if there is one. Forgets the latter.
    pub(super) fn explain(&self, error: String) -> String {
        match self.0.swap(None) {
            Some(reason) => format!("{error}: {reason}"),
            None => error,
        }
    }
}
