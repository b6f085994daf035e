//! The certificates for new connections to a Collector, read again whenever their files change.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use rustls::ClientConfig;

use crate::{
    telemetry::config::{ConfigError, Files, Tls},
    warn_once::WarnOnce,
};

/// The certificates for new connections to one destination.
#[derive(Debug)]
pub(super) struct Credentials {
    tls: Tls,
    last: Mutex<Last>,
}

/// The last content that could be used.
#[derive(Debug)]
struct Last {
    files: Files,
    config: Arc<ClientConfig>,
    warnings: WarnOnce,
}

impl Credentials {
    pub(super) fn new(tls: &Tls) -> Self {
        Self {
            tls: tls.clone(),
            last: Mutex::new(Last {
                files: tls.first_read.clone(),
                config: Arc::clone(&tls.first),
                warnings: WarnOnce::default(),
            }),
        }
    }

    /// Whether [`Self::current`] reads files.
    pub(super) const fn has_files(&self) -> bool {
        self.tls.has_files()
    }

    /// The certificates in the files now. If they cannot be used, because one is missing or only
    /// half of a pair has been renewed, returns the former ones. May block while it reads.
    pub(super) fn current(&self) -> Arc<ClientConfig> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_files() {
            match self.read_again(&last) {
                Ok(renewed) => {
                    if let Some((files, config)) = renewed {
                        (last.files, last.config) = (files, config);
                        tracing::info!(
                            "Certificates of the connection to the Collector were renewed."
                        );
                    }
                    last.warnings.succeeded(Instant::now());
                }
                Err(error) => {
                    if last.warnings.failed(Instant::now(), &error.to_string()) {
                        tracing::warn!(
                            "Certificates of the connection to the Collector cannot be read again: \
                             {error}. The former ones stay in use."
                        );
                    }
                }
            }
        }
        Arc::clone(&last.config)
    }

    /// `None` if nothing changed.
    fn read_again(&self, last: &Last) -> Result<Option<(Files, Arc<ClientConfig>)>, ConfigError> {
        let files = self.tls.read()?;
        if files == last.files {
            return Ok(None);
        }
        let config = self.tls.build(&files)?;
        Ok(Some((files, config)))
    }
}
