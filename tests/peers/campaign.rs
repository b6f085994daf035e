//! A short run of `cargo xtask campaign` with a fixed seed.

use std::{process::Command, time::Duration};

use serde_json::Value;
use statlink_tests::{build, process::Process};

/// For random faults, single and overlapping, the agent misses no outage, invents none, counts
/// exactly, and names at least 99 of 100 causes right. The rest: on a busy machine a client may
/// take the errno of a late ICMP error before the kernel half reads it, and the cause is then
/// `_OTHER`. The long run measures how soon the agent knows; this test does not assert it.
#[test]
fn a_short_campaign_of_a_fixed_seed_finds_nothing_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("campaign.json");
    let mut command = Command::new(build::helper("campaign").unwrap());
    command.args("--seed 7 --faults 60 --lanes 6 --longest 4 --json".split(' '));
    command.arg(&file);
    let mut campaign = Process::spawn("the campaign", command).unwrap();
    campaign.wait(LONGEST).unwrap();
    let printed: Vec<_> = campaign.lines().into_iter().map(|line| line.text).collect();
    let printed = printed.join("\n");

    let report: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let judged = &report["judged"];
    let violations = judged["violations"].as_object().unwrap();
    let others = violations.keys().filter(|wrong| *wrong != "wrong cause");
    assert_eq!(others.count(), 0, "{printed}");
    let number = |key: &str| judged[key].as_u64().unwrap();
    assert!(
        number("wrong_causes") * 100 <= number("causes"),
        "{printed}"
    );
    assert!(judged["faults"].as_u64().unwrap() >= 60, "{printed}");
    let attempts = &judged["counted"]["attempts"];
    assert!(attempts["agent"].as_u64().unwrap() > 60, "{printed}");
    assert_eq!(attempts["agent"], attempts["activators"], "{printed}");
    assert_eq!(attempts["agent"], attempts["kernel"], "{printed}");
}

/// It takes about a minute.
const LONGEST: Duration = Duration::from_secs(300);
