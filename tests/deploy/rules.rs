//! The rules for Prometheus: checked by promtool and pint, unit-tested by promtool.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Output,
};

use serde_json::Value;
use statlink_tests::deploy;
use tempfile::TempDir;

/// An alert of the rule files.
pub(crate) struct Alert {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Every alert of every rule file.
pub(crate) fn alerts() -> Vec<Alert> {
    let rules = rules().into_iter().filter_map(|(_, rule)| {
        let name = rule["alert"].as_str()?.to_owned();
        let (labels, annotations) = (texts(&rule["labels"]), texts(&rule["annotations"]));
        Some(Alert {
            name,
            labels,
            annotations,
        })
    });
    rules.collect()
}

/// The names of all recorded series.
pub(crate) fn recorded() -> BTreeSet<String> {
    let names = rules().into_iter().filter_map(|(_, rule)| {
        let name = rule["record"].as_str();
        name.map(str::to_owned)
    });
    names.collect()
}

/// Every rule, and the file that it is in.
fn rules() -> Vec<(String, Value)> {
    let mut rules = Vec::new();
    for file in files("rules") {
        let groups = parsed(&file)["groups"].clone();
        for group in groups.as_array().unwrap() {
            let of_group = group["rules"].as_array().unwrap().iter();
            rules.extend(of_group.map(|rule| (file.clone(), rule.clone())));
        }
    }
    rules
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let members = value.as_object().into_iter().flatten();
    members
        .map(|(key, text)| (key.clone(), text.as_str().unwrap().to_owned()))
        .collect()
}

/// The YAML files of a directory below `deploy/prometheus`, as promtool is to call them.
fn files(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(deploy::prometheus().join(directory)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = names.map(|name| format!("{directory}/{name}")).collect();
    files.retain(|file| Path::new(file).extension().is_some_and(|end| end == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "{directory} is empty");
    files
}

fn parsed(file: &str) -> Value {
    let text = fs::read_to_string(deploy::prometheus().join(file)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

#[track_caller]
fn assert_success(output: &Output) {
    let told = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&told)
    );
}

#[test]
fn promtool_finds_no_fault_with_them() {
    let files = files("rules");
    let mut arguments = vec!["check", "rules", "--lint=all", "--lint-fatal"];
    arguments.extend(files.iter().map(String::as_str));
    assert_success(&deploy::promtool(&arguments).unwrap());
}

#[test]
fn pint_finds_no_fault_with_them() {
    let lint = [
        "--offline",
        "--config=pint.hcl",
        "lint",
        "--fail-on=warning",
        "rules",
    ];
    assert_success(&deploy::pint(&lint).unwrap());
}

#[test]
fn they_do_what_their_tests_say() {
    for file in files("tests") {
        assert_success(&deploy::promtool(&["test", "rules", &file]).unwrap());
    }
}

#[test]
fn every_alert_is_tested_silent_and_by_labels_and_text() {
    let (mut silent, mut firing) = (BTreeSet::new(), BTreeSet::new());
    for file in files("tests") {
        for test in parsed(&file)["tests"].as_array().unwrap() {
            let cases = test["alert_rule_test"].as_array().into_iter().flatten();
            for case in cases {
                let name = case["alertname"].as_str().unwrap().to_owned();
                let expected = case["exp_alerts"].as_array();
                if expected.is_none_or(Vec::is_empty) {
                    silent.insert(name);
                    continue;
                }
                // promtool compares these whole, but takes the lack of them for none.
                for alert in expected.unwrap() {
                    assert!(
                        alert["exp_labels"]["severity"].is_string(),
                        "{file}: {name}"
                    );
                    assert!(
                        alert["exp_annotations"]["summary"].is_string(),
                        "{file}: {name}"
                    );
                }
                firing.insert(name);
            }
        }
    }
    let all: BTreeSet<_> = alerts().into_iter().map(|alert| alert.name).collect();
    assert_eq!(silent, all);
    assert_eq!(firing, all);
}

#[test]
fn each_test_has_every_rule_and_evaluates_every_group_in_order() {
    let mut groups: Vec<Value> = Vec::new();
    // Those of recording.yaml first, which the others read.
    let mut of_rules = files("rules");
    of_rules.sort_by_key(|file| !file.ends_with("recording.yaml"));
    for file in &of_rules {
        let of_file = parsed(file)["groups"].clone();
        groups.extend(
            of_file
                .as_array()
                .unwrap()
                .iter()
                .map(|group| group["name"].clone()),
        );
    }
    let names = |values: &[Value]| -> BTreeSet<String> {
        let texts = values
            .iter()
            .map(|value| value.as_str().unwrap().to_owned());
        texts.collect()
    };
    for file in files("tests") {
        let test = parsed(&file);
        let loaded = names(test["rule_files"].as_array().unwrap());
        let expected: BTreeSet<_> = of_rules.iter().map(|file| format!("../{file}")).collect();
        assert_eq!(loaded, expected, "{file}");
        let order = test["group_eval_order"].as_array().unwrap();
        assert_eq!(names(order), names(&groups), "{file}");
        let recording = order.len() - order.iter().filter(|name| is_alerts(name)).count();
        assert!(
            order[recording..].iter().all(is_alerts),
            "{file}: alerts go last"
        );
    }
}

fn is_alerts(group: &Value) -> bool {
    group.as_str().unwrap().ends_with(".alerts")
}

#[test]
fn job_is_named_where_labels_are_made_one_and_nowhere_else() {
    for (file, rule) in rules() {
        if file.ends_with("recording.yaml") {
            assert!(rule["record"].is_string(), "{file}: {rule}");
            continue;
        }
        let text = rule.to_string();
        for word in [
            "job",
            "instance",
            "exported_",
            "kube_",
            "kn_activator",
            "target_info",
        ] {
            assert!(!text.contains(word), "{file}: {word}: {text}");
        }
        assert!(rule["alert"].is_string(), "{file}: {rule}");
    }
}

#[test]
fn an_alert_has_a_severity_a_summary_and_a_description() {
    for Alert {
        name,
        labels,
        annotations,
    } in alerts()
    {
        let severity = labels["severity"].as_str();
        assert!(
            ["critical", "warning"].contains(&severity),
            "{name}: {severity}"
        );
        for key in ["summary", "description"] {
            assert!(annotations[key].ends_with(['.', '}']), "{name}: {key}");
        }
    }
}

/// Of alerts on a budget: each window, and the rate of burning that it must exceed.
fn burn_rates(text: &str, series: &str) -> BTreeSet<(String, String)> {
    let rates = text.split(series).skip(1).filter_map(|rest| {
        let (before, after) = rest.split_once(" > ")?;
        let window = before.split('{').next()?;
        // 14.4 * (1 - …), (14.4 * 0.001), or without a factor.
        let factor = after.trim_start_matches('(').split(" * ").next()?;
        let factor = factor.parse::<f64>().unwrap_or(1.0);
        Some((window.to_owned(), factor.to_string()))
    });
    rates.collect()
}

#[test]
fn sloth_makes_the_same_alerts_of_its_objective() {
    let directory = TempDir::new().unwrap();
    let made = directory.path().join("budget-by-sloth.yaml");
    let to = made.to_str().unwrap();
    let output = deploy::sloth(&["generate", "-i", "sloth.yaml", "-o", to]).unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = deploy::promtool(&["check", "rules", to]).unwrap();
    assert!(output.status.success(), "{output:?}");

    let made: Value = serde_saphyr::from_str(&fs::read_to_string(made).unwrap()).unwrap();
    let groups = made["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let mut by_sloth = BTreeMap::new();
    for rule in rules.filter(|rule| rule["alert"].is_string()) {
        let severity = rule["labels"]["severity"].as_str().unwrap().to_owned();
        let rates = burn_rates(rule["expr"].as_str().unwrap(), "slo:sli_error:ratio_rate");
        by_sloth.insert(severity, rates);
    }
    let mut own: BTreeMap<String, BTreeSet<_>> = BTreeMap::new();
    for (file, rule) in self::rules() {
        if file.ends_with("budget.yaml") {
            let severity = rule["labels"]["severity"].as_str().unwrap().to_owned();
            let rates = burn_rates(rule["expr"].as_str().unwrap(), "statlink:error_ratio:");
            own.entry(severity).or_default().extend(rates);
        }
    }
    assert_eq!(own["critical"].len() + own["warning"].len(), 8, "{own:?}");
    assert_eq!(by_sloth, own);
}
