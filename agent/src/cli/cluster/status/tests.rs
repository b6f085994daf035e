//! Tests: the table of a whole cluster.

use serde_json::json;

use super::{super::survey::tests::pod, *};

fn answer(name: &str, node: &str, links: Value) -> Answer<Status> {
    let status = json!({"version": "0.1.0", "links": links, "a later field": 1});
    Answer {
        agent: Agent::of(&pod(name, node, &json!({"running": {}}))),
        answer: Ok(serde_json::from_value(status).unwrap()),
    }
}

fn link(pod: &str, state: &str) -> Value {
    json!({"peer": "autoscaler", "namespace": "knative-serving", "pod": pod, "pid": 7,
           "state": state, "since_seconds": 61.0, "rtt_seconds": 0.00025, "errors": 3})
}

fn activator(name: &str, node: &str, phase: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "knative-serving"},
           "spec": {"nodeName": node}, "status": {"phase": phase}})
}

/// A healthy agent, a dead one, and one that crashes again and again.
fn three() -> (Vec<Answer<Status>>, Vec<Value>) {
    let mut lost = link("activator-b", "unreachable");
    lost["cause"] = "timeout".into();
    let healthy = answer(
        "agent-1",
        "node-1",
        json!([link("activator-a", "reachable"), lost]),
    );
    let dead = Answer {
        agent: Agent::of(&pod("agent-2", "node-2", &json!({"running": {}}))),
        answer: Err("no answer within 10s".to_owned()),
    };
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let agent = Agent::of(&pod("agent-3", "node-3", &waiting));
    let why = agent.down.clone().unwrap();
    let crashing = Answer {
        agent,
        answer: Err(why),
    };
    let activators = vec![
        activator("activator-a", "node-1", "Running"),
        activator("activator-c", "node-2", "Running"),
        activator("activator-d", "node-3", "Succeeded"),
    ];
    (vec![healthy, dead, crashing], activators)
}

#[test]
fn one_table_says_who_is_cut_off_and_who_does_not_answer() {
    let (answers, activators) = three();
    let silent = survey::footer(&answers);
    let mut out = Vec::new();
    let overview = Overview::of(answers, &activators);
    overview.write(&mut out, &silent).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    let cells = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        cells(lines[1]),
        [
            "knative-serving/activator-c",
            "-",
            "unobserved",
            "-",
            "-",
            "-",
            "-",
            "node-2",
            "-"
        ]
    );
    assert_eq!(
        cells(lines[2]),
        [
            "knative-serving/activator-b",
            "autoscaler",
            "unreachable",
            "1m",
            "1s",
            "timeout",
            "0.25ms",
            "3",
            "node-1",
            "0.1.0"
        ]
    );
    assert_eq!(cells(lines[3])[2], "reachable");
    assert_eq!(
        lines[4..9],
        [
            "",
            "1 unobserved, 1 unreachable, 1 reachable",
            "1 of 3 agents answer; version 0.1.0",
            "no answer from agent-2 on node-2: no answer within 10s",
            "no answer from agent-3 on node-3: CrashLoopBackOff (last: Error, exit code 3)",
        ]
    );
    assert!(
        lines[9].ends_with("alerts.md#statlinkagentsilent"),
        "{text}"
    );
}

#[test]
fn json_keeps_what_an_agent_of_another_version_says() {
    let (answers, activators) = three();
    let json = serde_json::to_value(Overview::of(answers, &activators)).unwrap();
    assert_eq!(json["agents"][2]["node"], "node-3");
    assert_eq!(json["agents"][2]["restarts"], 4);
    assert_eq!(json["links"][0]["node"], "node-1");
    assert_eq!(json["links"][0]["agent_version"], "0.1.0");
    assert_eq!(json["links"][0]["pid"], 7);
    assert_eq!(json["unobserved"][0]["pod"], "activator-c");
    let error = json["agents"][1]["error"].as_str();
    assert_eq!(error, Some("no answer within 10s"));
}

#[test]
fn an_agent_that_fails_says_why() {
    let output = |stdout: &str, stderr: &str, code| Output {
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
        code,
    };
    let refused = read(&output("", "error: connect to /run/s: no such file\n", 1));
    assert_eq!(refused.unwrap_err(), "connect to /run/s: no such file");
    assert!(read(&output("not JSON", "", 0)).is_err());
}

#[test]
fn a_name_cannot_write_to_the_terminal() {
    let overview = Overview::of(
        vec![answer(
            "a",
            "n\u{1b}[2J",
            json!([link("p\r\nfake", "idle")]),
        )],
        &[],
    );
    let shown = overview.table();
    assert_eq!(shown.lines().count(), 2, "{shown:?}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}
