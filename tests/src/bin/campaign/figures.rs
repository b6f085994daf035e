//! One link's figures in one export.

use std::{collections::BTreeMap, time::SystemTime};

use statlink_tests::{collector::Export, scenario::metric};

/// One link's figures. They are valid until an export has other ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// When the Collector had it.
    pub(crate) arrived: Option<SystemTime>,
    /// When the agent observed it.
    pub(crate) observed: Option<SystemTime>,
    /// When the agent last observed the same figures.
    pub(crate) confirmed: Option<SystemTime>,
    pub(crate) reachable: Option<bool>,
    pub(crate) connects: u64,
    pub(crate) retransmits: u64,
    pub(crate) lives: u64,
    /// By kind.
    checks: BTreeMap<String, u64>,
    /// By kind and cause, zeros left out.
    errors: BTreeMap<(String, String), u64>,
}

/// Counts by cause.
pub(crate) type ByCause = BTreeMap<String, u64>;

impl Figures {
    /// The figures of every link in an export, by pod.
    pub(crate) fn of(export: &Export) -> BTreeMap<String, Self> {
        let mut of = BTreeMap::<String, Self>::new();
        for point in &export.points {
            let Some(pod) = point.attributes.get("k8s.pod.name") else {
                continue;
            };
            let figures = of.entry(pod.clone()).or_default();
            figures.arrived = Some(export.arrived);
            figures.observed = figures.observed.max(Some(point.time));
            figures.confirmed = figures.observed;
            let attribute = |key| point.attributes.get(key).cloned().unwrap_or_default();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count, or 0 or 1"
            )]
            let value = point.value.number() as u64;
            match point.metric.as_str() {
                metric::REACHABLE => figures.reachable = Some(value == 1),
                metric::CONNECTS => figures.connects = value,
                metric::LIVES => figures.lives = value,
                metric::RETRANSMITS => figures.retransmits = value,
                metric::CHECKS => {
                    figures.checks.insert(attribute("kn.check.kind"), value);
                }
                metric::ERRORS if value > 0 => {
                    let key = (attribute("kn.check.kind"), attribute("error.type"));
                    figures.errors.insert(key, value);
                }
                _ => {}
            }
        }
        of
    }

    pub(crate) fn checks(&self, kind: &str) -> u64 {
        self.checks.get(kind).copied().unwrap_or_default()
    }

    pub(crate) fn checks_since(&self, before: &Self, kind: &str) -> u64 {
        self.checks(kind).saturating_sub(before.checks(kind))
    }

    pub(crate) fn errors(&self, kind: &str) -> u64 {
        let of_kind = self.errors.iter().filter(|((of, _), _)| of == kind);
        of_kind.map(|(_, n)| n).sum()
    }

    pub(crate) fn all_errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Errors since `before`, by cause.
    pub(crate) fn errors_since(&self, before: &Self, kind: &str) -> ByCause {
        let of_kind = self.errors.iter().filter(|((of, _), _)| of == kind);
        of_kind
            .map(|(key, n)| {
                let known = before.errors.get(key).copied().unwrap_or_default();
                (key.1.clone(), n.saturating_sub(known))
            })
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// Whether another export has the same figures.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let Self {
            arrived,
            observed,
            confirmed,
            ..
        } = self.clone();
        let other = Self {
            arrived,
            observed,
            confirmed,
            ..other.clone()
        };
        *self == other
    }

    /// The rules that it breaks, compared with `before`, in words.
    pub(crate) fn broken(&self, before: Option<&Self>) -> Vec<String> {
        let mut broken = Vec::new();
        for (kind, checks) in &self.checks {
            let errors = self.errors(kind);
            if errors > *checks {
                broken.push(format!("{errors} errors of {checks} {kind} checks"));
            }
        }
        if let Some(before) = before.filter(|before| self.fell_from(before)) {
            broken.push(format!("a counter fell: {before:?}, then {self:?}"));
        }
        broken
    }

    /// The difference to `before`, in words.
    pub(crate) fn change_from(&self, before: &Self) -> String {
        let mut parts = Vec::new();
        if self.reachable != before.reachable {
            let reachable = self
                .reachable
                .map_or("absent".to_owned(), |r| u8::from(r).to_string());
            parts.push(format!("reachable {reachable}"));
        }
        if self.connects != before.connects {
            parts.push(format!("connects {} to {}", before.connects, self.connects));
        }
        for (kind, n) in &self.checks {
            let (known, errors) = (before.checks(kind), self.errors_since(before, kind));
            if *n != known || !errors.is_empty() {
                parts.push(format!(
                    "{kind} checks {known} to {n}, new errors {errors:?}"
                ));
            }
        }
        parts.join("; ")
    }

    fn fell_from(&self, before: &Self) -> bool {
        let (mut checks, mut errors) = (before.checks.iter(), before.errors.iter());
        before.connects > self.connects
            || before.retransmits > self.retransmits
            || before.lives > self.lives
            || checks.any(|(kind, n)| self.checks(kind) < *n)
            || errors.any(|(key, n)| self.errors.get(key).is_none_or(|now| now < n))
    }
}
