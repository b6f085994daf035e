//! The dashboards for Grafana: sound by themselves, and every query is one that Prometheus takes, of
//! series that exist.

use std::{collections::BTreeSet, fmt::Write as _, fs, process::Command};

use serde_json::Value;
use statlink_tests::{build, deploy};
use tempfile::TempDir;

use crate::{rules, semconv};

pub(crate) const FILES: [&str; 2] = ["agents.json", "links.json"];

/// The dashboards, and the files that they are in.
pub(crate) fn dashboards() -> Vec<(&'static str, Value)> {
    let read = |file| {
        let path = deploy::directory().join("grafana").join(file);
        let text = fs::read_to_string(path).unwrap();
        (file, serde_json::from_str(&text).unwrap())
    };
    FILES.into_iter().map(read).collect()
}

/// The members of a list, if there is one.
pub(crate) fn list<'a>(of: &'a Value, pointer: &str) -> &'a [Value] {
    let found = of.pointer(pointer).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

/// The panels that show something: all but rows.
pub(crate) fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = list(dashboard, "/panels").iter();
    panels.filter(|panel| panel["type"] != "row").collect()
}

/// Every query of a dashboard, with values for its variables.
fn queries(dashboard: &Value) -> Vec<String> {
    let queries = statlink_tests::dashboards::queries(dashboard).into_iter();
    let queries: Vec<String> = queries.map(|query| query.expression).collect();
    for query in &queries {
        assert!(!query.contains('$'), "{query}");
    }
    // None is left out: each variable that is queried has one, too.
    let panels = panels(dashboard).into_iter();
    let targets: usize = panels.map(|panel| list(panel, "/targets").len()).sum();
    assert!(queries.len() > targets, "{} of {targets}", queries.len());
    queries
}

/// The names in a query that are of series: with a colon, or of one of the known beginnings.
fn names(query: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = query.split(|c| !is_part(c));
    let of_series = |word: &&str| {
        let outside = ["kn_activator_", "statlink_", "kube_", "container_"];
        // Not the duration of a subquery, as in [3h:].
        word.contains(':') && !word.starts_with(|c: char| c == ':' || c.is_ascii_digit())
            || *word == "ALERTS"
            || outside.iter().any(|start| word.starts_with(start))
    };
    // Labels of statlink's own are no series.
    let label = |word: &&str| semconv::attributes().contains(&word.replace('_', "."));
    words
        .filter(of_series)
        .filter(|word| !label(word))
        .collect()
}

#[test]
fn prometheus_takes_every_query() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("queries.yaml");
    let mut text = String::from("groups:\n- name: queries\n  rules:\n");
    let mut count = 0;
    for (name, dashboard) in dashboards() {
        let name = name.strip_suffix(".json").unwrap();
        for query in queries(&dashboard) {
            count += 1;
            let query = Value::String(query);
            writeln!(text, "  - record: {name}:query:{count}\n    expr: {query}").unwrap();
        }
    }
    assert!(count > 40, "{count} queries");
    fs::write(&file, &text).unwrap();
    let output = deploy::promtool(&["check", "rules", file.to_str().unwrap()]).unwrap();
    assert!(output.status.success(), "{output:?}\n{text}");
}

#[test]
fn every_query_is_of_series_that_exist() {
    let mut known = rules::recorded();
    known.extend(semconv::series());
    // Prometheus' own, and cAdvisor's.
    known.extend(["ALERTS", "container_cpu_usage_seconds_total"].map(str::to_owned));
    for (file, dashboard) in dashboards() {
        for query in queries(&dashboard) {
            let names = names(&query);
            assert!(!names.is_empty(), "{file}: {query}");
            for name in names {
                assert!(known.contains(name), "{file}: {name}: {query}");
            }
            for label in ["job", "exported_"] {
                assert!(!query.contains(label), "{file}: {label}: {query}");
            }
        }
    }
}

/// Strictly: a field that a panel of this type does not know is refused, too.
#[test]
fn grafana_s_own_schema_takes_them() {
    let directory = TempDir::new().unwrap();
    let schema = |files: &[std::path::PathBuf]| {
        let program = build::dashboard_schema().unwrap();
        Command::new(program).args(files).output().unwrap()
    };
    let files = FILES.map(|file| deploy::directory().join("grafana").join(file));
    let output = schema(&files);
    assert!(output.status.success(), "{output:?}");
    // It does see a typo.
    let text = fs::read_to_string(&files[0]).unwrap();
    let typo = directory.path().join("typo.json");
    fs::write(&typo, text.replacen("\"colorMode\"", "\"colourMode\"", 1)).unwrap();
    let output = schema(&[typo]);
    assert!(!output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("colourMode"), "{told}");
}

#[test]
fn every_panel_says_what_it_shows_and_has_its_place() {
    for (file, dashboard) in dashboards() {
        let all = list(&dashboard, "/panels");
        let ids: BTreeSet<_> = all
            .iter()
            .map(|panel| panel["id"].as_u64().unwrap())
            .collect();
        assert_eq!(ids.len(), all.len(), "{file}: an id twice");
        let mut taken = BTreeSet::new();
        for panel in all {
            let title = panel["title"].as_str().unwrap();
            let side = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(side("x") + side("w") <= 24, "{file}: {title}");
            for x in side("x")..side("x") + side("w") {
                for y in side("y")..side("y") + side("h") {
                    assert!(taken.insert((x, y)), "{file}: {title} lies on another");
                }
            }
        }
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap();
            let text = panel["description"].as_str().unwrap();
            assert!(text.ends_with('.'), "{file}: {title}: {text}");
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(defaults["unit"].is_string(), "{file}: {title}: no unit");
            assert!(!list(panel, "/targets").is_empty(), "{file}: {title}");
        }
    }
}

#[test]
fn data_sources_are_the_variable() {
    for (file, dashboard) in dashboards() {
        let variables = list(&dashboard, "/templating/list");
        assert_eq!(variables[0]["name"], "datasource", "{file}");
        assert_eq!(variables[0]["type"], "datasource", "{file}");
        let mut sources = Vec::new();
        for panel in panels(&dashboard) {
            sources.push(&panel["datasource"]);
            sources.extend(list(panel, "/targets").iter().map(|one| &one["datasource"]));
        }
        sources.extend(variables.iter().skip(1).map(|one| &one["datasource"]));
        let queried = list(&dashboard, "/annotations/list").iter();
        let queried = queried.filter(|one| one["expr"].is_string());
        sources.extend(queried.map(|one| &one["datasource"]));
        for source in sources {
            assert_eq!(source["uid"], "${datasource}", "{file}");
            assert_eq!(source["type"], "prometheus", "{file}");
        }
    }
}

#[test]
fn links_to_runbooks_lead_to_sections() {
    for (file, dashboard) in dashboards() {
        let text = dashboard.to_string();
        let links = text.split("/deploy/runbooks/").skip(1);
        let mut count = 0;
        for link in links {
            let link = link.split('"').next().unwrap();
            let (page, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = deploy::directory().join("runbooks").join(page);
            let page = fs::read_to_string(path).unwrap();
            let known = |heading: &str| heading.to_lowercase() == anchor;
            let mut headings = page.lines().filter_map(|line| line.strip_prefix("## "));
            // The cause of a row is put in by Grafana.
            let found = anchor.is_empty() || anchor == "${__value.text}" || headings.any(known);
            assert!(found, "{file}: {link}");
            count += 1;
        }
        assert!(count > 1, "{file}: {count} links");
    }
}
