//! Why the last HTTP request failed: the SDK says only that it did.

use std::{error::Error, fmt::Write, sync::Arc};

use arc_swap::ArcSwapOption;

/// Shared between the HTTP client, which knows, and the log line, which tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reason(Arc<ArcSwapOption<String>>);

impl Reason {
    /// Remembers `error` and all that caused it.
    pub(super) fn note(&self, error: &dyn Error) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            // Writing to a string does not fail.
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        self.0.store(Some(Arc::new(text)));
    }

    /// The last reason, once.
    pub(super) fn take(&self) -> Option<Arc<String>> {
        self.0.swap(None)
    }
}
