//! `statlink cluster why POD`: the story of one activator, in plain words, with its runbook.

#[cfg(test)]
mod tests;
mod words;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;

use self::words::{in_words, length, meaning};
use super::{
    api::{Api, encoded},
    status::{self, Link, Status},
    survey::Answer,
};
use crate::{
    cli::exit::{DONE, FAILED},
    link::Cause,
    runbook,
    terminal::{printable, write_json},
};

/// The facts about one activator.
struct Facts {
    namespace: String,
    pod: String,
    /// The pod's object; `None` if the user may not read it, or it is gone.
    object: Option<Value>,
    /// Its links, each with the node of the agent that reports it.
    links: Vec<(String, Link)>,
    /// Why the agent on its node does not answer, if it does not.
    silence: Option<String>,
    /// The newest lines of the agent's log about it, the oldest first.
    log: Vec<Value>,
}

/// The facts in sentences.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Story {
    pod: String,
    /// Each has one sentence or more.
    lines: Vec<String>,
    runbook: Option<String>,
    /// Whether nobody has to act.
    #[serde(skip)]
    is_well: bool,
}

/// Prints the story. The exit code says whether all is well.
///
/// # Errors
///
/// If there are no agents, they cannot be listed, or standard output cannot be written.
pub(super) async fn run(api: &Api, pod: &str, json: bool) -> anyhow::Result<u8> {
    let story = Facts::collect(api, pod).await?.story();
    let mut out = io::stdout().lock();
    if json {
        write_json(&mut out, &serde_json::to_string(&story)?)?;
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
        // If the pod is gone or may not be read, the agents still know about it.
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

    /// The pod of the agent whose log covers this activator.
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
            let (line, page) = self.nothing_known(&name);
            lines.push(line);
            is_well = page.is_none();
            runbook = page.map(runbook::Page::url);
        }
        lines.extend(self.kubernetes());
        lines.extend(self.log.iter().filter_map(sentence));
        Story {
            pod: name,
            lines,
            runbook,
            is_well,
        }
    }

    /// Why no agent reports the pod, and the runbook if somebody has to act.
    fn nothing_known(&self, name: &str) -> (String, Option<runbook::Page>) {
        if self.silence.is_none() && self.is_being_deleted() {
            // An activator that is being deleted runs on for most of a minute and serves its open
            // requests.
            let line = format!(
                "The link of {name} has ended with it, as it should: the pod is being deleted."
            );
            return (line, None);
        }
        let (why, page) = match (&self.object, &self.silence) {
            (_, Some(silence)) => (silence.as_str(), runbook::AGENT_SILENT),
            (None, None) => (
                "no agent has a link of it, and Kubernetes shows no such pod",
                runbook::NO_LINK,
            ),
            (Some(_), None) => (
                "the pod exists, and no agent has a link of it",
                runbook::UNOBSERVED,
            ),
        };
        (format!("Nothing is known of {name}: {why}."), Some(page))
    }

    fn is_being_deleted(&self) -> bool {
        let object = self.object.as_ref();
        object.is_some_and(|object| !object["metadata"]["deletionTimestamp"].is_null())
    }

    /// What Kubernetes reports about the pod.
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
        let ending = if self.is_being_deleted() {
            ", being deleted"
        } else {
            ""
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

/// The newest lines of an agent's log about outages of one pod.
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

/// One line of the log as a sentence.
fn sentence(line: &Value) -> Option<String> {
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

/// This many outages show a pattern, and fit on a screen.
const LINES: usize = 5;
