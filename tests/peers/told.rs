//! What the agent has told about one link: at the Collector and in its log.

use std::collections::BTreeMap;

use statlink_tests::{
    peer::Activator,
    process::Line,
    scenario::{Bed, link, metric},
};

/// The newest export's figures of one link.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) reachable: Option<f64>,
    pub(crate) connects: f64,
    /// By kind.
    pub(crate) checks: BTreeMap<String, f64>,
    /// By kind and cause, the zeros left out.
    pub(crate) errors: BTreeMap<(String, String), f64>,
}

impl Figures {
    pub(crate) fn of(bed: &Bed, activator: &Activator) -> Self {
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

    pub(crate) fn checks(&self, kind: &str) -> f64 {
        self.checks.get(kind).copied().unwrap_or_default()
    }

    /// The causes of this kind's errors, and how many.
    pub(crate) fn errors(&self, kind: &str) -> Vec<(&str, f64)> {
        let of_kind = self.errors.iter().filter(|((of, _), _)| of == kind);
        of_kind
            .map(|((_, cause), count)| (cause.as_str(), *count))
            .collect()
    }
}

/// The agent's log lines of this level about the link's reachability.
pub(crate) fn log(bed: &Bed, activator: &Activator, level: &str) -> Vec<Line> {
    let message = match level {
        "ERROR" => "Autoscaler is not reachable from activator.",
        _ => "Autoscaler is reachable from activator.",
    };
    let lines = bed.agent.as_ref().unwrap().process.lines();
    lines
        .into_iter()
        .filter(|line| {
            line.get("level") == level
                && line.get("message") == message
                && line.get("k8s.pod.name") == activator.pod.name.as_str()
        })
        .collect()
}

/// One ERROR line, with this cause and to this address.
#[track_caller]
pub(crate) fn assert_outage_logged(bed: &Bed, activator: &Activator, cause: &str, to: &str) {
    let lines = log(bed, activator, "ERROR");
    assert_eq!(lines.len(), 1, "one outage, one line: {lines:#?}");
    let line = lines.first().unwrap();
    assert_eq!(line.get("error.type"), cause, "{}", line.text);
    if cause != "no_attempt" {
        assert_eq!(line.get("network.peer.address"), to, "{}", line.text);
        assert_eq!(line.get("network.peer.port"), 8080, "{}", line.text);
    }
}

/// The last INFO line ends an outage of this cause.
#[track_caller]
pub(crate) fn assert_recovery_logged(bed: &Bed, activator: &Activator, cause: &str) {
    let lines = log(bed, activator, "INFO");
    let line = lines.last().unwrap();
    assert_eq!(line.get("error.type"), cause, "{}", line.text);
    let length = line.get("outage.duration").as_f64().unwrap();
    assert!(length > 0.0, "{}", line.text);
}
