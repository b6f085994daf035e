//! A short run of `cargo xtask campaign`, always the same.

use std::{process::Command, time::Duration};

use serde_json::Value;
use statlink_tests::{build, process::Process};

/// Random faults, single and overlapping, are told as they were: nothing missed, nothing false,
/// every cause and every count right. How soon is measured by the long run, not asserted here.
#[test]
fn a_short_campaign_of_a_fixed_seed_finds_nothing_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("campaign.json");
    let mut command = Command::new(build::helper("campaign").unwrap());
    command.args("--seed 7 --faults 60 --lanes 6 --longest 4 --json".split(' '));
    command.arg(&file);
    let mut campaign = Process::spawn("the campaign", command).unwrap();
    let status = campaign.wait(LONGEST).unwrap();
    let printed: Vec<_> = campaign.lines().into_iter().map(|line| line.text).collect();
    let printed = printed.join("\n");
    assert!(status.success(), "{status}\n{printed}");

    let report: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let judged = &report["judged"];
    assert_eq!(judged["violations"], serde_json::json!({}), "{printed}");
    assert_eq!(judged["wrong_causes"], 0, "{printed}");
    assert!(judged["faults"].as_u64().unwrap() >= 60, "{printed}");
    let attempts = &judged["counted"]["attempts"];
    assert!(attempts["agent"].as_u64().unwrap() > 60, "{printed}");
    assert_eq!(attempts["agent"], attempts["activators"], "{printed}");
    assert_eq!(attempts["agent"], attempts["kernel"], "{printed}");
}

/// It takes about a minute.
const LONGEST: Duration = Duration::from_secs(300);
