//! Errors of the configuration. Each is one line that names the variable.

use std::{fmt, io};

/// One bad value. Values that may be secrets (headers, endpoints with a password) are not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A value that is not accepted.
    #[error("{variable}={value}: expected {expected}")]
    Value {
        /// The variable or flag.
        variable: String,
        /// Its value.
        value: String,
        /// The accepted form.
        expected: String,
    },
    /// A value that is not accepted and may hold a secret.
    #[error("{variable}: {problem}; expected {expected}")]
    Secret {
        /// The variable or flag.
        variable: String,
        /// What is wrong, without the value.
        problem: String,
        /// The accepted form.
        expected: &'static str,
    },
    /// A reference to another variable that was not expanded.
    #[error(
        "{variable}={value}: a reference to a variable was not expanded; Kubernetes expands \
         $(NAME) only if NAME stands before this variable in the container's env"
    )]
    Unexpanded {
        /// The variable or flag.
        variable: String,
        /// Its value.
        value: String,
    },
    /// A resource attribute that would hide the activator's.
    #[error(
        "{variable}: {attribute} names the agent's own pod, and a Collector may put it in the \
         place of the activator's; leave it out"
    )]
    Reserved {
        /// The variable or flag.
        variable: String,
        /// The attribute's key.
        attribute: String,
    },
    /// A file that cannot be read.
    #[error("{variable}={path}: cannot be read: {source}")]
    Unreadable {
        /// The variable or flag.
        variable: String,
        /// The file.
        path: String,
        /// Why, with the errno.
        source: io::Error,
    },
    /// A file without what it should hold.
    #[error("{variable}={path}: expected {expected} in PEM form")]
    Pem {
        /// The variable or flag.
        variable: String,
        /// The file.
        path: String,
        /// The expected content.
        expected: &'static str,
    },
    /// One of two settings that need each other.
    #[error("{variable} is set without {missing}: a client needs both its certificate and its key")]
    Half {
        /// The one that is set.
        variable: String,
        /// The missing one.
        missing: String,
    },
    /// https without any certificate authority to trust.
    #[error(
        "{variable}={endpoint}: no certificate authority of the system is found; \
         name one with OTEL_EXPORTER_OTLP_CERTIFICATE"
    )]
    NoRoots {
        /// The variable or flag of the endpoint.
        variable: String,
        /// The endpoint.
        endpoint: String,
    },
    /// A certificate and a key that do not belong together.
    #[error("{variable}={path}: {source}")]
    Tls {
        /// The variable or flag.
        variable: String,
        /// The file.
        path: String,
        /// Why.
        source: rustls::Error,
    },
}

/// Every bad value, in the order of reading; never empty. Displays one on each line.
#[derive(Debug)]
pub(crate) struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The errors.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects errors, so that all are reported at once. An error that both signals share is kept
/// once.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<ConfigError>);

impl Errors {
    /// Returns the value, or keeps the error and returns `None`.
    pub(super) fn note<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let text = error.to_string();
                if !self.0.iter().any(|known| known.to_string() == text) {
                    self.0.push(error);
                }
                None
            }
        }
    }

    /// Returns `value` if there was no error.
    pub(super) fn finish<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(ConfigErrors(self.0))
        }
    }
}
