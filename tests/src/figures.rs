//! The newest metrics of one link.

use std::collections::BTreeMap;

use crate::{
    peer::Activator,
    scenario::{Bed, link, metric},
};

/// The newest export's figures of one link.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// The gauge; absent before the grace is over and after the link's end.
    pub reachable: Option<f64>,
    /// Connections that were upgraded.
    pub connects: f64,
    /// Checks by kind.
    pub checks: BTreeMap<String, f64>,
    /// Errors by kind and cause, the zeros left out.
    pub errors: BTreeMap<(String, String), f64>,
}

impl Figures {
    /// The figures of one export, so that they are consistent; empty if no export has the link.
    pub fn of(bed: &Bed, activator: &Activator) -> Self {
        let attributes = link(&activator.pod);
        bed.collector.read(|exports| {
            let newest = exports.iter().rev().find(|export| {
                let mut points = export.points.iter();
                points.any(|point| point.is(metric::CHECKS, &attributes))
            });
            let mut figures = Self::default();
            for point in newest.iter().flat_map(|export| &export.points) {
                if !point.is(&point.metric, &attributes) {
                    continue;
                }
                let attribute = |key| point.attributes.get(key).cloned().unwrap_or_default();
                let (kind, cause) = (attribute("kn.check.kind"), attribute("error.type"));
                let value = point.value.number();
                match point.metric.as_str() {
                    metric::REACHABLE => figures.reachable = Some(value),
                    metric::CONNECTS => figures.connects = value,
                    metric::CHECKS => {
                        figures.checks.insert(kind, value);
                    }
                    metric::ERRORS if value > 0.0 => {
                        figures.errors.insert((kind, cause), value);
                    }
                    _ => {}
                }
            }
            figures
        })
    }

    /// How many checks of this kind.
    pub fn checks(&self, kind: &str) -> f64 {
        self.checks.get(kind).copied().unwrap_or_default()
    }

    /// The causes of this kind's errors, and how many.
    pub fn errors(&self, kind: &str) -> Vec<(&str, f64)> {
        let of_kind = self.errors.iter().filter(|((of, _), _)| of == kind);
        of_kind
            .map(|((_, cause), count)| (cause.as_str(), *count))
            .collect()
    }
}
