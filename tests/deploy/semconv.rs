//! The registry of what is exported: the same as the agent's code and its documentation say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::Value;
use statlink_ebpf::wire::errno::{ERRNOS, Meaning};
use statlink_link::{Cause, CheckKind, UnknownReason};
use statlink_tests::deploy;

/// What a table and the registry both say of a metric.
#[derive(Debug, PartialEq, Eq)]
struct Metric {
    instrument: String,
    unit: String,
    /// Those that not every point about a link has.
    attributes: BTreeSet<String>,
}

type Metrics = BTreeMap<String, Metric>;

/// The tables of the modules that make the instruments, beside the code.
const MODULES: [&str; 2] = [
    include_str!("../../agent/src/telemetry/metrics/links.rs"),
    include_str!("../../agent/src/telemetry/metrics/agent.rs"),
];

const DURATIONS: &str = include_str!("../../agent/src/telemetry/metrics/durations.rs");

/// A member of the registry, over all its files.
fn registered(key: &str) -> Vec<Value> {
    let mut members = Vec::new();
    for file in ["attributes.yaml", "links.yaml", "agents.yaml"] {
        let path = deploy::directory().join("semconv").join(file);
        let text = fs::read_to_string(path).unwrap();
        let parsed: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(parsed["file_format"], "definition/2", "{file}");
        members.extend(parsed[key].as_array().into_iter().flatten().cloned());
    }
    members
}

fn texts<'a>(values: &'a [Value], key: &str) -> Vec<&'a str> {
    let texts = values.iter().filter_map(|value| value[key].as_str());
    texts.collect()
}

/// The values that an attribute may have, in their order.
fn values_of(attribute: &str) -> Vec<String> {
    let attributes = registered("attributes");
    let found = attributes.iter().find(|one| one["key"] == attribute);
    let members = found.unwrap()["type"]["members"].as_array().unwrap();
    let values = texts(members, "value");
    values.into_iter().map(str::to_owned).collect()
}

/// The keys of all attributes.
pub(crate) fn attributes() -> BTreeSet<String> {
    let attributes = registered("attributes");
    let keys = texts(&attributes, "key").into_iter();
    keys.map(str::to_owned).collect()
}

/// The names of all series that Prometheus makes of the metrics, by its default translation.
pub(crate) fn series() -> BTreeSet<String> {
    let mut series = BTreeSet::new();
    for (name, metric) in metrics() {
        let name = name.replace('.', "_");
        let unit = match metric.unit.as_str() {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        let suffixes: &[&str] = match metric.instrument.as_str() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        series.extend(
            suffixes
                .iter()
                .map(|suffix| format!("{name}{unit}{suffix}")),
        );
    }
    series
}

fn metrics() -> Metrics {
    let metrics = registered("metrics").into_iter().map(|metric| {
        let text = |key: &str| metric[key].as_str().unwrap().to_owned();
        let references = metric["attributes"].as_array();
        let attributes = texts(references.map_or(&[], Vec::as_slice), "ref").into_iter();
        let attributes = attributes.filter(|name| *name != "peer").map(str::to_owned);
        let of_metric = Metric {
            instrument: text("instrument"),
            unit: text("unit"),
            attributes: attributes.collect(),
        };
        (text("name"), of_metric)
    });
    metrics.collect()
}

/// The cells of each row of a Markdown table that begins with a metric's name.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().map(|line| line.trim_start_matches("//! "));
    let rows = lines.filter(|line| {
        let name = line.strip_prefix("| `");
        name.is_some_and(|name| name.starts_with("kn.") || name.starts_with("statlink."))
    });
    rows.map(|row| row.split('|').skip(1).map(str::trim).collect())
        .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    let parts = cell.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

/// Tables of the columns metrics, `instrument, unit`, attributes.
fn tabled(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for row in rows(text) {
        // Not the table of their names in Prometheus.
        let Some((instrument, _)) = row[1].split_once(", ") else {
            continue;
        };
        if !["gauge", "counter", "histogram"].contains(&instrument) {
            continue;
        }
        for name in quoted(row[0]) {
            let metric = Metric {
                instrument: instrument.to_owned(),
                unit: quoted(row[1]).remove(0),
                attributes: quoted(row[2]).into_iter().collect(),
            };
            assert!(
                metrics.insert(name.clone(), metric).is_none(),
                "{name} twice"
            );
        }
    }
    metrics
}

fn signals() -> String {
    fs::read_to_string(deploy::directory().join("docs/signals.md")).unwrap()
}

#[test]
fn metrics_are_those_of_the_documentation() {
    assert_eq!(tabled(&signals()), metrics());
}

#[test]
fn metrics_are_those_of_the_code() {
    let mut of_code = Metrics::new();
    for module in MODULES {
        of_code.extend(tabled(module));
    }
    let (durations, others): (Metrics, Metrics) = metrics()
        .into_iter()
        .partition(|(_, metric)| metric.instrument == "histogram");
    assert_eq!(of_code, others);
    let of_code = rows(DURATIONS).into_iter();
    let of_code: Vec<_> = of_code
        .map(|row| (quoted(row[0]), quoted(row[1])))
        .collect();
    let expected = durations
        .into_iter()
        .map(|(name, metric)| (vec![name], vec![metric.unit]));
    assert_eq!(of_code, expected.collect::<Vec<_>>());
}

#[test]
fn the_code_names_nothing_that_is_not_registered() {
    let mut known: BTreeSet<String> = metrics().into_keys().collect();
    known.extend(attributes());
    let mut named = BTreeSet::new();
    for module in MODULES.into_iter().chain([DURATIONS]) {
        let code = module
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let literals = line.split('"').skip(1).step_by(2);
            named.extend(literals.filter(|text| is_name(text)).map(str::to_owned));
        }
    }
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for name in metrics().keys() {
        assert!(named.contains(name), "{name} is not exported");
    }
}

/// Whether a text is a dotted name, as of a metric or an attribute.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
    text.contains('.')
        && text
            .split('.')
            .all(|part| !part.is_empty() && part.chars().all(plain))
}

#[test]
fn causes_kinds_of_checks_and_reasons_are_those_of_the_code() {
    assert_eq!(values_of("error.type"), Cause::ALL.map(Cause::as_str));
    assert_eq!(
        values_of("kn.check.kind"),
        CheckKind::ALL.map(CheckKind::as_str)
    );
    assert_eq!(
        values_of("statlink.unknown.reason"),
        UnknownReason::ALL.map(UnknownReason::as_str)
    );
}

/// Who sees an errno beside `_OTHER` finds it explained.
#[test]
fn every_errno_without_a_cause_of_its_own_is_explained() {
    let path = deploy::directory().join("docs/causes.md");
    let causes = fs::read_to_string(path).unwrap();
    for errno in ERRNOS {
        let explained = causes.contains(&format!("| {} ({}) | ", errno.name, errno.number));
        let is_other = matches!(errno.meaning, Meaning::Other(_));
        assert_eq!(explained, is_other, "{}", errno.name);
    }
}

#[test]
fn reasons_are_those_of_the_documentation() {
    let signals = signals();
    let rows = rows(&signals);
    for (metric, attribute) in [
        ("statlink.records.lost", "statlink.loss.reason"),
        ("statlink.pods.unobserved", "statlink.unobserved.reason"),
        ("statlink.clients.refused", "statlink.refusal.reason"),
    ] {
        let name = format!("`{metric}`");
        let row = rows.iter().find(|row| row[0] == name).unwrap();
        let quoted: Vec<_> = quoted(row[3])
            .into_iter()
            .filter(|word| *word != "statlink status")
            .collect();
        assert_eq!(values_of(attribute), quoted, "{metric}");
    }
}

#[test]
fn references_lead_to_what_is_defined() {
    let attributes = registered("attributes");
    let keys: BTreeSet<_> = texts(&attributes, "key").into_iter().collect();
    assert_eq!(keys.len(), attributes.len(), "an attribute twice");
    let groups = registered("attribute_groups");
    let groups: BTreeSet<_> = texts(&groups, "id").into_iter().collect();
    let mut used = BTreeSet::new();
    for definition in ["metrics", "attribute_groups", "entities"] {
        for one in registered(definition) {
            for list in ["attributes", "identity", "description"] {
                let references = one[list].as_array().into_iter().flatten();
                for reference in references {
                    let group = reference["ref_group"].as_str();
                    let key = reference["ref"].as_str();
                    assert!(
                        group.is_none_or(|group| groups.contains(group)),
                        "{reference}"
                    );
                    assert!(key.is_none_or(|key| keys.contains(key)), "{reference}");
                    used.extend(key.map(str::to_owned));
                }
            }
        }
    }
    assert_eq!(used, keys.into_iter().map(str::to_owned).collect());
}
