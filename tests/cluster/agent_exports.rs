//! What one agent has exported about a link, before an export (a *mark*) and after it.

use std::{collections::BTreeMap, time::SystemTime};

use statlink_tests::{
    collector::{Attributes, Value},
    scenario::metric::{ERRORS, REACHABLE},
};

use crate::world::{Agent, series};

/// An error that was exported, and when the Collector had it.
#[derive(Debug)]
pub(crate) struct ExportedError {
    pub(crate) cause: String,
    pub(crate) at: SystemTime,
}

impl Agent {
    /// Asserts that after `mark` it exported nothing about a link but that it is reachable.
    pub(crate) fn assert_up(&self, mark: usize, activator: &str) {
        let of = series(activator);
        let errors = self.errors_at(mark, &of);
        self.exports.read(|exports| {
            for point in exports[mark..].iter().flat_map(|export| &export.points) {
                if point.is(REACHABLE, &of) {
                    assert_eq!(
                        point.value,
                        Value::Gauge(1.0),
                        "{}: {point:#?}",
                        self.profile
                    );
                }
                if point.is(ERRORS, &of) {
                    let was = errors.get(&point.attributes).copied().unwrap_or_default();
                    assert!(point.value.number() <= was, "{}: {point:#?}", self.profile);
                }
            }
        });
    }

    /// The newest number of a series before `mark`.
    pub(crate) fn number_at(&self, mark: usize, metric: &str, of: &[(&str, &str)]) -> f64 {
        self.exports.read(|exports| {
            let points = exports[..mark]
                .iter()
                .rev()
                .flat_map(|export| &export.points);
            let mut points = points.filter(|point| point.is(metric, of));
            points.next().map_or(0.0, |point| point.value.number())
        })
    }

    /// The newest number of each series of errors before `mark`.
    fn errors_at(&self, mark: usize, of: &[(&str, &str)]) -> BTreeMap<Attributes, f64> {
        self.exports.read(|exports| {
            let mut newest = BTreeMap::new();
            for point in exports[..mark].iter().flat_map(|export| &export.points) {
                if point.is(ERRORS, of) {
                    newest.insert(point.attributes.clone(), point.value.number());
                }
            }
            newest
        })
    }

    /// The errors of a kind that were new after `mark`, each cause once, in their order.
    pub(crate) fn new_errors(
        &self,
        mark: usize,
        activator: &str,
        kind: &str,
    ) -> Vec<ExportedError> {
        let of = [&series(activator)[..], &[("kn.check.kind", kind)]].concat();
        let before = self.errors_at(mark, &of);
        self.exports.read(|exports| {
            let mut new: Vec<ExportedError> = Vec::new();
            for export in &exports[mark..] {
                for point in export.points.iter().filter(|point| point.is(ERRORS, &of)) {
                    let was = before.get(&point.attributes).copied().unwrap_or_default();
                    let cause = &point.attributes["error.type"];
                    if point.value.number() > was && !new.iter().any(|error| error.cause == *cause)
                    {
                        new.push(ExportedError {
                            cause: cause.clone(),
                            at: export.arrived,
                        });
                    }
                }
            }
            new
        })
    }
}
