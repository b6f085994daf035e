//! Tests: the story of an activator.

use serde_json::json;

use super::{
    super::survey::{Agent, tests::pod},
    *,
};

fn answers(links: Value) -> Vec<Answer<Status>> {
    let status = json!({"version": "0.1.0", "links": links});
    vec![Answer {
        agent: Agent::of(&pod("agent-1", "node-1", &json!({"running": {}}))),
        answer: Ok(serde_json::from_value(status).unwrap()),
    }]
}

fn activator() -> Value {
    json!({"metadata": {}, "spec": {"nodeName": "node-1"}, "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{"restartCount": 2}],
    }})
}

const LOG: &str = r#"{"timestamp":"T1","level":"ERROR","message":"Autoscaler is not reachable from activator.","k8s.namespace.name":"knative-serving","k8s.pod.name":"activator-1","error.type":"timeout","attempts":"12:00:00 10.0.0.1:8080 timeout after 3.000 s"}
not JSON
{"timestamp":"T2","level":"ERROR","message":"of another","k8s.namespace.name":"knative-serving","k8s.pod.name":"activator-2"}
{"timestamp":"T3","level":"INFO","message":"An activator was discovered.","k8s.namespace.name":"knative-serving","k8s.pod.name":"activator-1"}
"#;

fn facts(object: Option<Value>, answers: Vec<Answer<Status>>) -> Facts {
    let mut facts = Facts::of(
        "knative-serving",
        "activator-1",
        object,
        answers,
        Some("node-1"),
    );
    facts.log = lines_about(LOG, "knative-serving", "activator-1");
    facts
}

#[test]
fn an_outage_is_told_with_its_cause_and_its_runbook() {
    let link = json!([{"peer": "autoscaler", "namespace": "knative-serving", "pod": "activator-1",
        "state": "unreachable", "since_seconds": 61.4, "cause": "timeout",
        "peer_address": "10.0.0.1:8080", "checks": 20, "errors": 12}]);
    let story = facts(Some(activator()), answers(link)).story();
    assert_eq!(
        story.lines,
        [
            "knative-serving/activator-1 on node-1 has been cut off from its autoscaler at 10.0.0.1:8080 \
             for 1m 1s: timeout. 12 of 20 checks failed so far.",
            "Why: connect() is not answered. Usually a NetworkPolicy or a firewall drops it, or the node \
             is gone.",
            "Kubernetes: Running, not ready, restarts: 2 (an activator without its link is not ready after \
             25 s, and is restarted after two minutes).",
            "Log, T1: Autoscaler is not reachable from activator. Cause: timeout. Last attempts: 12:00:00 \
             10.0.0.1:8080 timeout after 3.000 s.",
        ]
    );
    let runbook = story.runbook.unwrap();
    assert!(runbook.ends_with("causes.md#timeout"), "{runbook}");
    assert!(!story.is_well);
}

#[test]
fn one_that_is_connected_needs_nothing() {
    let link = json!([{"peer": "autoscaler", "namespace": "knative-serving", "pod": "activator-1",
        "state": "reachable", "rtt_seconds": 0.00025, "checks": 20, "errors": 0}]);
    let story = facts(None, answers(link)).story();
    let first = "knative-serving/activator-1 on node-1 has been connected to its autoscaler, round-trip \
                 time 0.25 ms. 0 of 20 checks failed so far.";
    assert_eq!(story.lines[0], first);
    assert!(story.is_well);
    assert_eq!(story.runbook, None);
}

#[test]
fn an_agent_that_does_not_answer_is_the_story() {
    let silent = vec![Answer {
        agent: Agent::of(&pod("agent-1", "node-1", &json!({"running": {}}))),
        answer: Err("no answer within 10s".to_owned()),
    }];
    let story = facts(Some(activator()), silent).story();
    assert_eq!(
        story.lines[0],
        "Nothing is known of knative-serving/activator-1: no answer from agent-1 on node-1: no answer \
         within 10s."
    );
    assert!(story.runbook.unwrap().ends_with("#statlinkagentsilent"));
}

#[test]
fn a_pod_that_nobody_knows_is_said_to_be_none() {
    let story = facts(None, Vec::new()).story();
    assert!(
        story.lines[0].ends_with("Kubernetes shows no such pod."),
        "{story:?}"
    );
    let story = facts(Some(activator()), answers(json!([]))).story();
    assert!(
        story.lines[0].ends_with("no agent has a link of it."),
        "{story:?}"
    );
}

#[test]
fn one_that_is_being_deleted_needs_nothing() {
    let mut ending = activator();
    ending["metadata"]["deletionTimestamp"] = json!("2026-11-28T12:00:00Z");
    let story = facts(Some(ending), answers(json!([]))).story();
    assert_eq!(
        story.lines[..2],
        [
            "The link of knative-serving/activator-1 has ended with it, as it should: the pod is being deleted.",
            "Kubernetes: Running, not ready, being deleted, restarts: 2.",
        ]
    );
    assert!(story.is_well);
    assert_eq!(story.runbook, None);
}

#[test]
fn only_the_newest_outages_are_told() {
    let line = |n: usize| {
        format!(
            r#"{{"timestamp":"T{n}","level":"ERROR","message":"m","k8s.namespace.name":"n","k8s.pod.name":"p"}}"#
        )
    };
    let log: Vec<_> = (0..9).map(line).collect();
    let lines = lines_about(&log.join("\n"), "n", "p");
    assert_eq!(lines.len(), LINES);
    assert_eq!(lines[0]["timestamp"], "T4");
}
