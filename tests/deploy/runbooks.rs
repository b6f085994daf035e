//! The runbooks: each alert and each cause has a section, and each section all its parts.

use std::{collections::BTreeMap, fs};

use statlink_link::Cause;
use statlink_tests::deploy;

use crate::rules::{Alert, alerts};

/// Where the alerts point to; what follows is a file of the runbooks, and an anchor.
const HOME: &str = "https://github.com/statlink/statlink/blob/main/deploy/runbooks/";

/// What a section tells, in this order.
const PARTS: [&str; 4] = [
    "**Users see**",
    "**Confirm**",
    "**Fix**",
    "**It is fixed when**",
];

fn read(name: &str) -> String {
    let path = deploy::directory().join("runbooks").join(name);
    fs::read_to_string(path).unwrap()
}

/// The sections of a runbook by their headings, in no order.
fn sections(name: &str) -> BTreeMap<String, String> {
    let text = read(name);
    let sections = text.split("\n## ").skip(1).map(|section| {
        let (heading, rest) = section.split_once('\n').unwrap();
        (heading.to_owned(), rest.to_owned())
    });
    sections.collect()
}

fn headings(sections: &BTreeMap<String, String>) -> Vec<&str> {
    sections.keys().map(String::as_str).collect()
}

#[track_caller]
fn assert_whole(heading: &str, section: &str) {
    let mut rest = section;
    for part in PARTS {
        let place = rest.find(part);
        assert!(
            place.is_some(),
            "{heading}: {part} is missing, or not in its place"
        );
        rest = &rest[place.unwrap()..];
    }
    assert!(rest.trim_end().ends_with('.'), "{heading}: {rest}");
}

#[test]
fn every_alert_leads_to_a_section_of_its_own() {
    let sections = sections("alerts.md");
    let mut names: Vec<String> = Vec::new();
    for Alert {
        name, annotations, ..
    } in alerts()
    {
        let anchor = name.to_lowercase();
        assert_eq!(
            annotations["runbook_url"],
            format!("{HOME}alerts.md#{anchor}")
        );
        names.push(name);
    }
    names.sort();
    names.dedup();
    assert_eq!(headings(&sections), names);
    for (heading, section) in &sections {
        assert!(
            section.trim_start().starts_with("**It means**"),
            "{heading}"
        );
        assert_whole(heading, section);
    }
}

#[test]
fn every_cause_has_a_section() {
    let sections = sections("causes.md");
    let mut causes: Vec<&str> = Cause::ALL.map(Cause::as_str).to_vec();
    causes.sort_unstable();
    assert_eq!(headings(&sections), causes);
    for (heading, section) in &sections {
        let rule = format!("[Rule](../docs/causes.md#{})", heading.to_lowercase());
        assert!(section.contains(&rule), "{heading}: {rule}");
        assert_whole(heading, section);
    }
}

#[test]
fn an_alert_that_knows_its_cause_leads_to_the_cause() {
    let with_cause = alerts().into_iter().filter_map(|mut alert| {
        let url = alert.annotations.remove("cause_url")?;
        Some((alert.name, url))
    });
    let with_cause: Vec<_> = with_cause.collect();
    assert!(!with_cause.is_empty());
    for (name, url) in with_cause {
        assert!(
            url.starts_with(&format!("{HOME}causes.md")),
            "{name}: {url}"
        );
        // As GitHub makes anchors of headings.
        assert!(
            url.contains(r#"label "error_type" | toLower"#),
            "{name}: {url}"
        );
    }
}

#[test]
fn the_commands_of_the_agent_exist() {
    for name in ["README.md", "alerts.md", "causes.md"] {
        for rest in read(name).split(" /statlink ").skip(1) {
            let command = rest.split_whitespace().next().unwrap();
            assert!(
                ["status", "events", "check"].contains(&command),
                "{name}: {command}"
            );
        }
    }
}
