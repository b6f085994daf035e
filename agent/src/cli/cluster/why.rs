//! `statlink cluster why POD`: the story of one activator, in plain words, with its runbook.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;

use super::{
    api::{Api, encoded},
    status::{self, Link, Status},
    survey::Answer,
};
use crate::{
    cli::{
        exit::{DONE, FAILED},
        terminal::printable,
    },
    link::Cause,
    runbook,
};

/// What is known of one activator.
struct Facts {
    namespace: String,
    pod: String,
    /// The pod as Kubernetes has it; nothing if it may not be seen, or is gone.
    object: Option<Value>,
    /// Its links, each with the node of the agent that knows it.
    links: Vec<(String, Link)>,
    /// What the agent on its node says instead, if it does not answer.
    silence: Option<String>,
    /// The newest lines of the agent's log about it, the oldest first.
    log: Vec<Value>,
}

/// What is told.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Story {
    pod: String,
    /// One sentence, or some, each.
    lines: Vec<String>,
    runbook: Option<String>,
    /// Whether somebody has to do something.
    #[serde(skip)]
    is_well: bool,
}

/// Prints it. The exit code says whether all is well with it.
///
/// # Errors
///
/// If there are no agents, they cannot be listed, or standard output cannot be written.
pub(super) async fn run(api: &Api, pod: &str, json: bool) -> anyhow::Result<u8> {
    let story = Facts::collect(api, pod).await?.story();
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &story)?;
        writeln!(out)?;
    } else {
        for line in &story.lines {
            writeln!(out, "{}", printable(line))?;
        }
        if let Some(runbook) = &story.runbook {
            writeln!(out, "Runbook: {runbook}")?;
        }
    }
    Ok(if story.is_well { DONE } else { FAILED })
}

impl Facts {
    async fn collect(api: &Api, pod: &str) -> anyhow::Result<Self> {
        let (namespace, pod) = match pod.split_once('/') {
            Some((namespace, pod)) => (namespace, pod),
            None => (api.serving_namespace.as_str(), pod),
        };
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}",
            encoded(namespace),
            encoded(pod)
        );
        // Not to be allowed to see it, and that it is gone, take nothing from what the agents know.
        let object = api.get(&path).await.ok();
        let node = object
            .as_ref()
            .and_then(|object| object["spec"]["nodeName"].as_str());
        let answers = status::ask(api).await?;
        let mut facts = Self::of(namespace, pod, object.clone(), answers, node);
        if let Some(agent) = facts.agent(api, node).await {
            let log = api.log(&agent, false).await.unwrap_or_default();
            facts.log = lines_about(&log, namespace, pod);
        }
        Ok(facts)
    }

    fn of(
        namespace: &str,
        pod: &str,
        object: Option<Value>,
        answers: Vec<Answer<Status>>,
        node: Option<&str>,
    ) -> Self {
        let mut links = Vec::new();
        let mut silence = None;
        for answer in answers {
            let of_node = node == Some(answer.agent.node.as_str());
            if of_node {
                silence = answer.silence();
            }
            let Ok(status) = answer.answer else { continue };
            let own = status.links.into_iter();
            let own = own.filter(|link| link.namespace == namespace && link.pod == pod);
            links.extend(own.map(|link| (answer.agent.node.clone(), link)));
        }
        Self {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            object,
            links,
            silence,
            log: Vec::new(),
        }
    }

    /// The pod of the agent whose log tells of it.
    async fn agent(&self, api: &Api, node: Option<&str>) -> Option<String> {
        let node = node.or_else(|| self.links.first().map(|(node, _)| node.as_str()))?;
        let agents = super::survey::agents(api).await.ok()?;
        let agent = agents.into_iter().find(|agent| agent.node == node)?;
        Some(agent.pod)
    }

    fn story(&self) -> Story {
        let name = format!("{}/{}", self.namespace, self.pod);
        let mut lines = Vec::new();
        let mut runbook = None;
        let mut is_well = true;
        for (node, link) in &self.links {
            lines.push(format!("{name} on {node} {}", in_words(link)));
            if link.state == "unreachable" {
                is_well = false;
                let cause = link.cause.as_deref().unwrap_or_default();
                if let Some(cause) = Cause::ALL.into_iter().find(|one| one.as_str() == cause) {
                    lines.push(format!("Why: {}", meaning(cause)));
                    runbook = Some(runbook::of_cause(cause));
                }
            } else if link.state == "unknown" {
                is_well = false;
                runbook = Some(runbook::UNOBSERVED.url());
            }
        }
        if self.links.is_empty() {
            is_well = false;
            let (line, page) = self.nothing_known(&name);
            lines.push(line);
            runbook = Some(page.url());
        }
        lines.extend(self.kubernetes());
        lines.extend(self.log.iter().filter_map(told));
        Story {
            pod: name,
            lines,
            runbook,
            is_well,
        }
    }

    /// Why no agent says anything.
    fn nothing_known(&self, name: &str) -> (String, runbook::Page) {
        match (&self.object, &self.silence) {
            (_, Some(silence)) => (
                format!("Nothing is known of {name}: {silence}."),
                runbook::AGENT_SILENT,
            ),
            (None, None) => (
                format!(
                    "Nothing is known of {name}: no agent has a link of it, and Kubernetes shows no such pod."
                ),
                runbook::NO_LINK,
            ),
            (Some(_), None) => (
                format!(
                    "Nothing is known of {name}: the pod exists, and no agent has a link of it."
                ),
                runbook::UNOBSERVED,
            ),
        }
    }

    /// What Kubernetes says of the pod.
    fn kubernetes(&self) -> Option<String> {
        let object = self.object.as_ref()?;
        let status = &object["status"];
        let phase = status["phase"].as_str().unwrap_or("Unknown");
        let conditions = status["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .find(|one| one["type"] == "Ready");
        let ready = match ready {
            Some(one) if one["status"] == "True" => "ready",
            _ => "not ready",
        };
        let containers = status["containerStatuses"].as_array();
        let restarts: u64 = containers
            .into_iter()
            .flatten()
            .filter_map(|one| one["restartCount"].as_u64())
            .sum();
        let ending = if object["metadata"]["deletionTimestamp"].is_null() {
            ""
        } else {
            ", being deleted"
        };
        let note = if ready == "not ready" && ending.is_empty() && phase == "Running" {
            " (an activator without its link is not ready after 25 s, and is restarted after two minutes)"
        } else {
            ""
        };
        Some(format!(
            "Kubernetes: {phase}, {ready}{ending}, restarts: {restarts}{note}."
        ))
    }
}

/// What a link's state means, after "POD on NODE".
fn in_words(link: &Link) -> String {
    let Link {
        peer,
        state,
        errors,
        checks,
        ..
    } = link;
    let since = link.since();
    let lasting = since.map_or_else(String::new, |since| format!(" for {}", length(since)));
    match state.as_str() {
        "reachable" => {
            let rtt = link.rtt_seconds.map_or_else(String::new, |rtt| {
                format!(", round-trip time {:.2} ms", rtt * 1e3)
            });
            format!(
                "has been connected to its {peer}{lasting}{rtt}. {errors} of {checks} checks failed so far."
            )
        }
        "unreachable" => {
            let cause = link.cause.as_deref().unwrap_or("_OTHER");
            let to = link
                .peer_address
                .as_ref()
                .map_or_else(String::new, |to| format!(" at {to}"));
            format!(
                "has been cut off from its {peer}{to}{lasting}: {cause}. {errors} of {checks} checks failed so far."
            )
        }
        "starting" => {
            format!("has just been discovered; its link to the {peer} is not judged yet.")
        }
        "idle" => format!("has no {peer} to be connected to."),
        "unknown" => {
            let why = link
                .unknown_reason
                .as_deref()
                .unwrap_or("no reason is told");
            format!(
                "may be connected to its {peer} or not: the agent cannot tell{lasting} ({why})."
            )
        }
        state => format!("is in the state {state}{lasting}, which this program does not know."),
    }
}

/// Lines of an agent's log about one pod that tell of outages; the newest of them.
fn lines_about(log: &str, namespace: &str, pod: &str) -> Vec<Value> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let mut lines: Vec<Value> = lines
        .filter(|line: &Value| {
            line["k8s.pod.name"] == pod
                && line["k8s.namespace.name"] == namespace
                && (line["level"] == "ERROR" || !line["outage.duration"].is_null())
        })
        .collect();
    let surplus = lines.len().saturating_sub(LINES);
    lines.drain(..surplus);
    lines
}

/// One line of the log, as a sentence.
fn told(line: &Value) -> Option<String> {
    let at = line["timestamp"].as_str()?;
    let message = line["message"].as_str()?;
    let mut text = format!("Log, {at}: {message}");
    if let Some(seconds) = line["outage.duration"].as_f64() {
        let outage = Duration::try_from_secs_f64(seconds).ok()?;
        text.push_str(&format!(" The outage lasted {}.", length(outage)));
    }
    if let Some(cause) = line["error.type"].as_str() {
        text.push_str(&format!(" Cause: {cause}."));
    }
    if let Some(attempts) = line["attempts"].as_str().filter(|text| !text.is_empty()) {
        text.push_str(&format!(" Last attempts: {attempts}."));
    }
    Some(text)
}

fn length(duration: Duration) -> String {
    let whole = if duration.as_secs() > 0 {
        Duration::from_secs(duration.as_secs())
    } else {
        Duration::from_millis(u64::from(duration.subsec_millis()))
    };
    humantime::format_duration(whole).to_string()
}

/// What a cause means to whoever is on call.
const fn meaning(cause: Cause) -> &'static str {
    match cause {
        Cause::ConnectionRefused => {
            "nobody listens at the address. Usually no autoscaler is ready, or a policy rejects."
        }
        Cause::Timeout => {
            "connect() is not answered. Usually a NetworkPolicy or a firewall drops it, or the node is gone."
        }
        Cause::Cancelled => {
            "the activator gave up a dial before anybody could answer; it was slow, or ending."
        }
        Cause::HostUnreachable => "the network says that there is no such host.",
        Cause::NetworkUnreachable => "this node has no route to the address.",
        Cause::PermissionDenied => "a policy on this node refuses connect() itself.",
        Cause::AddressUnavailable => "this pod is out of local ports.",
        Cause::ConnectionReset => {
            "somebody on the way resets the connection: a proxy, connection tracking, or a crashed autoscaler."
        }
        Cause::ConnectionAborted => {
            "this node was told to destroy the socket, as a CNI does with connections to a backend that \
             is gone."
        }
        Cause::HandshakeFailed => {
            "the connection opens, and the websocket does not come up: a mesh that answers 403 or 503, or \
             something that is no autoscaler."
        }
        Cause::PeerClosed => "the autoscaler closed the connection, as it does when it restarts.",
        Cause::LocalClosed => {
            "the activator closed the connection itself, for its pings were not answered in time, or it \
             is starved of CPU."
        }
        Cause::Stalled => {
            "the connection looks established, and nothing is answered on it: packets vanish, or the \
             autoscaler is frozen."
        }
        Cause::LocalStalled => {
            "the activator itself is silent: frozen, starved of CPU, or deadlocked."
        }
        Cause::WrongPeer => "it is connected to an address that is none of the autoscaler's.",
        Cause::Dns => "it does not dial, for its name lookups fail.",
        Cause::NoAttempt => "it neither has a connection nor tries to make one.",
        Cause::Other => "nothing else fits; the log has the number of the error.",
    }
}

/// So many outages make a pattern, and fit on a screen.
const LINES: usize = 5;

#[cfg(test)]
mod tests {
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
}
