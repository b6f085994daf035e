//! Reads variables by OpenTelemetry's rules: empty is unset, and a signal's own form takes precedence.

use std::{ops::RangeInclusive, time::Duration};

use super::error::ConfigError;

/// The environment, behind a lookup so that a test can stand in for it.
#[derive(Clone, Copy)]
pub(super) struct Env<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Var {
    /// The variable's name, or the flag's.
    pub name: String,
    /// Not empty, and without surrounding blanks.
    pub value: String,
}

/// An exported signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Metrics,
    Logs,
}

impl Signal {
    /// Its part of a variable's name.
    const fn infix(self) -> &'static str {
        match self {
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
        }
    }

    /// Its path under a base endpoint of http/protobuf.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Metrics => "v1/metrics",
            Self::Logs => "v1/logs",
        }
    }
}

impl Env<'_> {
    /// The variable `name`.
    pub(super) fn get(&self, name: &str) -> Option<Var> {
        let value = (self.0)(name)?.trim().to_owned();
        (!value.is_empty()).then(|| Var {
            name: name.to_owned(),
            value,
        })
    }

    /// `OTEL_EXPORTER_OTLP_<signal>_<key>`.
    pub(super) fn own(&self, signal: Signal, key: &str) -> Option<Var> {
        self.get(&format!("OTEL_EXPORTER_OTLP_{}_{key}", signal.infix()))
    }

    /// `OTEL_EXPORTER_OTLP_<key>`.
    pub(super) fn shared(&self, key: &str) -> Option<Var> {
        self.get(&format!("OTEL_EXPORTER_OTLP_{key}"))
    }

    /// The signal's own form, or else the shared one.
    pub(super) fn otlp(&self, signal: Signal, key: &str) -> Option<Var> {
        self.own(signal, key).or_else(|| self.shared(key))
    }
}

impl Var {
    /// Whether it holds a reference to a variable that Kubernetes did not expand.
    pub(super) fn is_unexpanded(&self) -> bool {
        self.value.contains("$(")
    }

    /// An error that says so, and shows the value.
    pub(super) fn unexpanded(&self) -> ConfigError {
        ConfigError::Unexpanded {
            variable: self.name.clone(),
            value: self.value.clone(),
        }
    }

    /// An error that shows the value and the accepted form.
    pub(super) fn expected(&self, expected: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            variable: self.name.clone(),
            value: self.value.clone(),
            expected: expected.into(),
        }
    }

    /// An error that does not show the value.
    pub(super) fn secret(&self, problem: impl Into<String>, expected: &'static str) -> ConfigError {
        ConfigError::Secret {
            variable: self.name.clone(),
            problem: problem.into(),
            expected,
        }
    }

    /// One of `choices`, ignoring case.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let found = choices
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(&self.value));
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.expected(words.join(" or "))
        })
    }

    /// Whole milliseconds within `range`.
    pub(super) fn milliseconds(
        &self,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        let value = self.value.parse().ok().map(Duration::from_millis);
        value.filter(|value| range.contains(value)).ok_or_else(|| {
            self.expected(format!(
                "milliseconds from {} to {}",
                range.start().as_millis(),
                range.end().as_millis()
            ))
        })
    }
}
