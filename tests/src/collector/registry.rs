//! Checks every export of an agent against the telemetry registry of `deploy/semconv`: in any test,
//! a metric, unit, attribute or value that the registry does not have is an error of the export.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use serde_json::Value as Json;

use super::{Export, Point, Value};

/// The registry's entry of one metric.
#[derive(Debug)]
struct Metric {
    instrument: String,
    unit: String,
    /// Attributes by name, and whether each point has it.
    attributes: BTreeMap<String, bool>,
}

#[derive(Debug)]
struct Registry {
    metrics: BTreeMap<String, Metric>,
    /// The values of attributes whose list is closed.
    values: BTreeMap<String, BTreeSet<String>>,
}

/// What in an agent's export is not in the registry; each fault once.
pub(super) fn faults(export: &Export) -> BTreeSet<String> {
    let own = export.points.iter().filter(|point| point.scope == SCOPE);
    match registry() {
        Ok(registry) => own.filter_map(|point| registry.fault(point)).collect(),
        Err(error) => BTreeSet::from([error.clone()]),
    }
}

impl Registry {
    fn fault(&self, point: &Point) -> Option<String> {
        let name = &point.metric;
        let Some(metric) = self.metrics.get(name) else {
            return Some(format!("{name} is not in the registry"));
        };
        let instrument = match point.value {
            Value::Gauge(_) => "gauge",
            Value::Sum {
                monotonic: true,
                cumulative: true,
                ..
            } => "counter",
            Value::Sum { .. } => "another sum",
            Value::Histogram { .. } => "histogram",
        };
        if (instrument, &point.unit) != (&metric.instrument, &metric.unit) {
            let Metric {
                instrument: kind,
                unit,
                ..
            } = metric;
            let own = &point.unit;
            return Some(format!(
                "{name} is a {instrument} in {own}, not a {kind} in {unit}"
            ));
        }
        let missing = metric
            .attributes
            .iter()
            .find(|(key, required)| **required && !point.attributes.contains_key(*key));
        if let Some((key, _)) = missing {
            return Some(format!("{name} lacks {key}"));
        }
        point.attributes.iter().find_map(|(key, value)| {
            if !metric.attributes.contains_key(key) {
                return Some(format!(
                    "{name} has {key}, which it has not in the registry"
                ));
            }
            let known = self.values.get(key)?;
            (!known.contains(value)).then(|| {
                format!("{name} has {key}={value}, a value that the registry does not have")
            })
        })
    }

    fn parse() -> Result<Self, String> {
        let files = [ATTRIBUTES, LINKS, AGENTS];
        let parsed = files.map(|text| {
            serde_saphyr::from_str::<Json>(text).map_err(|error| format!("the registry: {error}"))
        });
        let mut all = Vec::new();
        for file in parsed {
            all.push(file?);
        }
        let members = |key: &str| -> Vec<&Json> {
            let lists = all.iter().filter_map(|file| file.get(key)?.as_array());
            lists.flatten().collect()
        };
        let groups: BTreeMap<_, _> = members("attribute_groups")
            .into_iter()
            .map(|group| (text(group, "id"), group))
            .collect();
        let metrics = members("metrics").into_iter().map(|metric| {
            let mut attributes = BTreeMap::new();
            collect(metric, &groups, &mut attributes);
            let of_metric = Metric {
                instrument: text(metric, "instrument"),
                unit: text(metric, "unit"),
                attributes,
            };
            (text(metric, "name"), of_metric)
        });
        let values = members("attributes").into_iter().filter_map(|attribute| {
            let members = attribute.pointer("/type/members")?.as_array()?;
            let values = members.iter().map(|member| text(member, "value"));
            Some((text(attribute, "key"), values.collect()))
        });
        Ok(Self {
            metrics: metrics.collect(),
            values: values.collect(),
        })
    }
}

/// The attributes of a metric, and those of the groups that it refers to.
fn collect(of: &Json, groups: &BTreeMap<String, &Json>, to: &mut BTreeMap<String, bool>) {
    for reference in of
        .get("attributes")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
    {
        if let Some(group) = groups.get(&text(reference, "ref_group")) {
            collect(group, groups, to);
        } else {
            let required = text(reference, "requirement_level") == "required";
            to.insert(text(reference, "ref"), required);
        }
    }
}

fn text(of: &Json, key: &str) -> String {
    of.get(key)
        .and_then(Json::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn registry() -> &'static Result<Registry, String> {
    static REGISTRY: OnceLock<Result<Registry, String>> = OnceLock::new();
    REGISTRY.get_or_init(Registry::parse)
}

/// The instrumentation scope of everything that an agent exports; Knative has others.
const SCOPE: &str = "statlink";
const ATTRIBUTES: &str = include_str!("../../../deploy/semconv/attributes.yaml");
const LINKS: &str = include_str!("../../../deploy/semconv/links.yaml");
const AGENTS: &str = include_str!("../../../deploy/semconv/agents.yaml");

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn errors(value: f64) -> Point {
        let attributes = [
            ("peer", "autoscaler"),
            ("k8s.namespace.name", "knative-serving"),
            ("k8s.pod.name", "activator-0"),
            ("kn.check.kind", "connect"),
            ("error.type", "timeout"),
        ];
        Point {
            metric: "kn.activator.stats.conn.errors".to_owned(),
            unit: "{error}".to_owned(),
            scope: SCOPE.to_owned(),
            resource: BTreeMap::new(),
            attributes: attributes
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            start: None,
            time: SystemTime::UNIX_EPOCH,
            value: Value::Sum {
                value,
                monotonic: true,
                cumulative: true,
            },
        }
    }

    #[track_caller]
    fn assert_fault(change: impl FnOnce(&mut Point), expected: &str) {
        let mut point = errors(1.0);
        change(&mut point);
        let export = Export {
            arrived: SystemTime::UNIX_EPOCH,
            points: vec![point, errors(2.0)],
            logs: Vec::new(),
        };
        let found: Vec<_> = faults(&export).into_iter().collect();
        let expected: Vec<_> = [expected]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_registered_is_no_fault_and_neither_is_what_others_export() {
        assert_fault(|_| {}, "");
        assert_fault(
            |point| {
                point.scope = "knative.dev/serving/pkg/activator".to_owned();
                point.unit = String::new();
            },
            "",
        );
    }

    #[test]
    fn each_way_of_not_being_registered_is_named() {
        assert_fault(
            |point| point.metric = "statlink.new".to_owned(),
            "statlink.new is not in the registry",
        );
        assert_fault(
            |point| point.unit = "1".to_owned(),
            "kn.activator.stats.conn.errors is a counter in 1, not a counter in {error}",
        );
        assert_fault(
            |point| point.value = Value::Gauge(1.0),
            "kn.activator.stats.conn.errors is a gauge in {error}, not a counter in {error}",
        );
        assert_fault(
            |point| {
                point.attributes.remove("k8s.pod.name");
            },
            "kn.activator.stats.conn.errors lacks k8s.pod.name",
        );
        assert_fault(
            |point| {
                point.attributes.insert("node".to_owned(), "n".to_owned());
            },
            "kn.activator.stats.conn.errors has node, which it has not in the registry",
        );
        assert_fault(
            |point| {
                point
                    .attributes
                    .insert("error.type".to_owned(), "bad_luck".to_owned());
            },
            "kn.activator.stats.conn.errors has error.type=bad_luck, a value that the registry does not have",
        );
    }
}
