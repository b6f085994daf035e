//! The dashboards for Perses: made of those for Grafana, with the same queries, and such as Perses' own model takes.

use std::{fs, process::Command};

use serde_json::{Map, Value, json};
use statlink_tests::{build, deploy};
use tempfile::TempDir;

use crate::dashboards;

/// A dashboard of Grafana's as one of Perses'.
fn converted(dashboard: &Value) -> Value {
    let text = |key: &str| dashboard[key].as_str().unwrap().to_owned();
    let mut panels = Map::new();
    for panel in dashboards::panels(dashboard) {
        panels.insert(name(panel), panel_of(panel));
    }
    let links = dashboards::list(dashboard, "/links").iter();
    // Grafana's other dashboard has another address here.
    let links = links.filter(|link| link["targetBlank"] == true);
    let links =
        links.map(|link| json!({ "name": link["title"], "url": link["url"], "targetBlank": true }));
    json!({
        "kind": "Dashboard",
        "metadata": { "name": text("uid"), "project": "statlink" },
        "spec": {
            "display": { "name": text("title"), "description": text("description") },
            "duration": "3h",
            "refreshInterval": text("refresh"),
            "variables": variables(dashboard),
            "panels": panels,
            "layouts": layouts(dashboard),
            "links": links.collect::<Vec<_>>(),
        },
    })
}

fn name(panel: &Value) -> String {
    format!("panel-{}", panel["id"])
}

/// Those that are queries: a data source is the project's own.
fn variables(dashboard: &Value) -> Vec<Value> {
    let mut variables = Vec::new();
    for variable in dashboards::list(dashboard, "/templating/list") {
        let Some(query) = variable.pointer("/query/query").and_then(Value::as_str) else {
            continue;
        };
        // label_values(METRIC{…}, LABEL)
        let inner = query.strip_prefix("label_values(").unwrap();
        let (series, label) = inner.trim_end_matches(')').rsplit_once(", ").unwrap();
        variables.push(json!({
            "kind": "ListVariable",
            "spec": {
                "name": variable["name"],
                "display": { "name": variable["label"], "hidden": false },
                "allowAllValue": true,
                "allowMultiple": true,
                "customAllValue": variable["allValue"],
                "defaultValue": "$__all",
                "sort": "alphabetical-asc",
                "plugin": {
                    "kind": "PrometheusLabelValuesVariable",
                    "spec": { "labelName": label, "matchers": [series] },
                },
            },
        }));
    }
    variables
}

/// A grid for what stands between two rows of Grafana's.
fn layouts(dashboard: &Value) -> Vec<Value> {
    let mut layouts = vec![(None, 0, Vec::new())];
    for panel in dashboards::list(dashboard, "/panels") {
        let side = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        if panel["type"] == "row" {
            let below = side("y") + side("h");
            layouts.push((panel["title"].as_str(), below, Vec::new()));
            continue;
        }
        let (_, above, items) = layouts.last_mut().unwrap();
        items.push(json!({
            "x": side("x"),
            "y": side("y") - *above,
            "width": side("w"),
            "height": side("h"),
            "content": { "$ref": format!("#/spec/panels/{}", name(panel)) },
        }));
    }
    let grids = layouts.into_iter().map(|(title, _, items)| {
        let mut spec = json!({ "items": items });
        if let Some(title) = title {
            spec["display"] = json!({ "title": title, "collapse": { "open": true } });
        }
        json!({ "kind": "Grid", "spec": spec })
    });
    grids.collect()
}

fn panel_of(panel: &Value) -> Value {
    let queries = dashboards::list(panel, "/targets").iter().map(|target| {
        let mut spec = json!({ "query": query_of(panel, target["expr"].as_str().unwrap()) });
        let legend = target["legendFormat"].as_str().unwrap_or_default();
        if !legend.is_empty() {
            spec["seriesNameFormat"] = json!(legend);
        }
        let plugin = json!({ "kind": "PrometheusTimeSeriesQuery", "spec": spec });
        json!({ "kind": "TimeSeriesQuery", "spec": { "plugin": plugin } })
    });
    let defaults = &panel["fieldConfig"]["defaults"];
    let links = dashboards::list(defaults, "/links").iter();
    let links =
        links.map(|link| json!({ "name": link["title"], "url": link["url"], "targetBlank": true }));
    let mut spec = json!({
        "display": { "name": panel["title"], "description": panel["description"] },
        "plugin": plugin_of(panel, defaults),
        "queries": queries.collect::<Vec<_>>(),
    });
    let links: Vec<_> = links.collect();
    if !links.is_empty() {
        spec["links"] = json!(links);
    }
    json!({ "kind": "Panel", "spec": spec })
}

/// Whether the values of a panel are moments, in milliseconds.
fn shows_moments(panel: &Value) -> bool {
    let overrides = dashboards::list(panel, "/fieldConfig/overrides").iter();
    let mut properties = overrides.flat_map(|one| dashboards::list(one, "/properties"));
    properties.any(|property| property["value"] == "dateTimeFromNow")
}

/// Perses has no unit for a moment: it shows how many seconds ago that was.
fn query_of(panel: &Value, expression: &str) -> String {
    if shows_moments(panel) {
        format!("time() - ({expression}) / 1000")
    } else {
        expression.to_owned()
    }
}

fn plugin_of(panel: &Value, defaults: &Value) -> Value {
    let (kind, spec) = match panel["type"].as_str().unwrap() {
        "stat" => (
            "StatChart",
            json!({
                "calculation": "last-number",
                "format": format_of(defaults),
                "thresholds": thresholds(defaults),
            }),
        ),
        "timeseries" => {
            let mut spec = json!({
                "legend": { "position": "bottom", "mode": "list" },
                "yAxis": { "format": format_of(defaults) },
            });
            if let Some(least) = defaults["min"].as_f64() {
                spec["yAxis"]["min"] = json!(least);
            }
            if defaults.pointer("/custom/stacking/mode") == Some(&json!("normal")) {
                spec["visual"] = json!({ "areaOpacity": 0.1, "stack": "all" });
            }
            ("TimeSeriesChart", spec)
        }
        "state-timeline" => (
            "StatusHistoryChart",
            json!({ "mappings": mappings(defaults) }),
        ),
        "table" => ("Table", table_of(panel)),
        other => panic!("Perses has nothing for a panel of the type {other}"),
    };
    json!({ "kind": kind, "spec": spec })
}

fn format_of(defaults: &Value) -> Value {
    let unit = match defaults["unit"].as_str().unwrap() {
        "percentunit" => "percent-decimal",
        "s" => "seconds",
        "bytes" => "bytes",
        // What is counted a minute or a second is said by the panel's title and description.
        "none" | "suffix:/min" | "suffix:/s" => "decimal",
        other => panic!("Perses has no unit for {other}"),
    };
    match defaults["decimals"].as_u64() {
        Some(places) => json!({ "unit": unit, "decimalPlaces": places }),
        None => json!({ "unit": unit }),
    }
}

/// Perses takes a colour's value, not its name.
fn colour(name: &str) -> &'static str {
    match name {
        "red" => "#F2495C",
        "orange" => "#FF9830",
        "green" => "#73BF69",
        "text" => "#8E8E8E",
        other => panic!("a colour without a value: {other}"),
    }
}

fn thresholds(defaults: &Value) -> Value {
    let steps = dashboards::list(defaults, "/thresholds/steps");
    let of = |step: &Value| colour(step["color"].as_str().unwrap());
    let more = steps.iter().skip(1);
    let more = more.map(|step| json!({ "value": step["value"], "color": of(step) }));
    json!({ "mode": "absolute", "defaultColor": of(&steps[0]), "steps": more.collect::<Vec<_>>() })
}

/// The words and colours of values.
fn mappings(defaults: &Value) -> Vec<Value> {
    let mappings = dashboards::list(defaults, "/mappings").iter();
    let values = mappings.filter_map(|mapping| mapping["options"].as_object());
    let values = values.flatten().map(|(value, shown)| {
        let result = json!({
            "value": shown["text"],
            "color": colour(shown["color"].as_str().unwrap()),
        });
        json!({ "kind": "Value", "spec": { "value": value, "result": result } })
    });
    values.collect()
}

/// The columns under their names; several queries become one row for each set of labels.
fn table_of(panel: &Value) -> Value {
    let (mut columns, mut joins) = (Vec::new(), Vec::new());
    for transformation in dashboards::list(panel, "/transformations") {
        let options = &transformation["options"];
        if transformation["id"] == "merge" {
            joins.push(json!({ "kind": "MergeSeries", "spec": {} }));
        }
        for hidden in options["excludeByName"].as_object().into_iter().flatten() {
            let name = column(hidden.0);
            columns.push(json!({ "name": name, "hide": true }));
        }
        let order = |name: &str| options["indexByName"][name].as_u64();
        let renamed = options["renameByName"].as_object().into_iter().flatten();
        let mut renamed: Vec<_> = renamed.collect();
        renamed.sort_by_key(|(name, _)| order(name));
        columns.extend(renamed.into_iter().map(|(name, header)| {
            let mut shown = json!({ "name": column(name), "header": header });
            if name == "Value" && shows_moments(panel) {
                shown["header"] = json!(format!("{}, ago", header.as_str().unwrap()));
                shown["format"] = json!({ "unit": "seconds" });
            }
            shown
        }));
    }
    json!({ "columnSettings": columns, "transforms": joins })
}

/// A column by the name that Perses gives it.
fn column(name: &str) -> String {
    match name {
        "Time" => "timestamp".to_owned(),
        "Value" => "value".to_owned(),
        // Perses counts queries from 1.
        "Value #A" => "value #1".to_owned(),
        "Value #B" => "value #2".to_owned(),
        label => label.to_owned(),
    }
}

fn path(file: &str) -> std::path::PathBuf {
    deploy::directory().join("perses").join(file)
}

#[test]
fn they_are_made_of_those_for_grafana() {
    for (file, dashboard) in dashboards::dashboards() {
        let written = format!("{:#}\n", converted(&dashboard));
        if std::env::var_os("STATLINK_WRITE").is_some() {
            fs::write(path(file), &written).unwrap();
        }
        assert!(
            fs::read_to_string(path(file)).unwrap_or_default() == written,
            "{file} is old: STATLINK_WRITE=1 cargo test -p statlink-tests --test deploy perses writes it"
        );
    }
}

#[test]
fn perses_own_model_takes_them() {
    let model = |file: &std::path::Path| {
        let program = build::perses_model().unwrap();
        Command::new(program).arg(file).output().unwrap()
    };
    for file in dashboards::FILES {
        let output = model(&path(file));
        assert!(output.status.success(), "{output:?}");
    }
    // It does see a typo, and a panel without a place.
    let directory = TempDir::new().unwrap();
    let wrong = directory.path().join("wrong.json");
    let text = fs::read_to_string(path(dashboards::FILES[0])).unwrap();
    for (right, instead, told) in [
        ("\"refreshInterval\"", "\"refreshEvery\"", "refreshEvery"),
        (
            "#/spec/panels/panel-2\"",
            "#/spec/panels/panel-1\"",
            "panel-2 has no place",
        ),
    ] {
        fs::write(&wrong, text.replacen(right, instead, 1)).unwrap();
        let output = model(&wrong);
        assert!(!output.status.success(), "{instead}: {output:?}");
        let output = String::from_utf8(output.stdout).unwrap();
        assert!(output.contains(told), "{instead}: {output}");
    }
}
