//! The agents of a cluster by their pods, and the answer of each or the reason why there is none.

use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use serde_json::Value;

use super::api::{Api, CONTAINER, Output};
use crate::{runbook, terminal::printable};

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Agent {
    /// Its node; empty for a pod without one.
    pub(super) node: String,
    /// Its pod.
    pub(super) pod: String,
    /// How often its container was restarted.
    pub(super) restarts: u64,
    /// Why it cannot answer, if Kubernetes knows.
    #[serde(skip)]
    pub(super) down: Option<String>,
    /// How its container ended before its last restart, in Kubernetes' own words.
    #[serde(skip)]
    last_end: Option<String>,
}

/// An agent's answer, or why there is none.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) agent: Agent,
    pub(super) answer: Result<T, String>,
}

impl Agent {
    /// Reads the agent's pod from the API.
    pub(super) fn of(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let statuses = pod["status"]["containerStatuses"].as_array();
        let status = statuses
            .into_iter()
            .flatten()
            .find(|status| status["name"] == CONTAINER)
            .unwrap_or(&Value::Null);
        Self {
            node: text(&pod["spec"]["nodeName"]),
            pod: text(&pod["metadata"]["name"]),
            restarts: status["restartCount"].as_u64().unwrap_or_default(),
            down: why_down(pod, status),
            last_end: how_ended(&status["lastState"]["terminated"]),
        }
    }

    /// Why an agent did not answer although its container runs. A container that crashes again and
    /// again runs for a moment each time; then its last end says more than `error`.
    pub(super) fn no_answer(&self, error: &anyhow::Error) -> String {
        match &self.last_end {
            Some(ended) => format!("{error:#} (last: {ended})"),
            None => format!("{error:#}"),
        }
    }
}

impl<T> Answer<T> {
    /// A line that names the agent and says why it does not answer.
    pub(super) fn silence(&self) -> Option<String> {
        let why = self.answer.as_ref().err()?;
        let Agent { node, pod, .. } = &self.agent;
        let node = if node.is_empty() { "no node" } else { node };
        Some(printable(&format!("no answer from {pod} on {node}: {why}")).into_owned())
    }
}

/// All agents, by node.
pub(super) async fn agents(api: &Api) -> anyhow::Result<Vec<Agent>> {
    let pods = api.agents().await?;
    anyhow::ensure!(
        !pods.is_empty(),
        "there is no agent in namespace {}; --namespace and --selector say where to look",
        api.namespace
    );
    let mut agents: Vec<_> = pods.iter().map(Agent::of).collect();
    agents.sort_by(|one, other| (&one.node, &one.pod).cmp(&(&other.node, &other.pod)));
    Ok(agents)
}

/// Runs the same command on all agents at once; `read` parses what each printed.
pub(super) async fn ask<T>(
    api: &Api,
    agents: Vec<Agent>,
    command: &[&str],
    read: impl Fn(&Output) -> Result<T, String>,
) -> Vec<Answer<T>> {
    let read = &read;
    let answers = stream::iter(agents).map(|agent| async move {
        let answer = match &agent.down {
            Some(why) => Err(why.clone()),
            None => match api.run(&agent.pod, command).await {
                Ok(output) => read(&output),
                Err(error) => Err(agent.no_answer(&error)),
            },
        };
        Answer { agent, answer }
    });
    answers.buffered(AT_ONCE).collect().await
}

/// One line for each agent that does not answer.
pub(super) fn footer<T>(answers: &[Answer<T>]) -> Vec<String> {
    let mut lines: Vec<_> = answers.iter().filter_map(Answer::silence).collect();
    if !lines.is_empty() {
        lines.push(format!("runbook: {}", runbook::AGENT_SILENT.url()));
    }
    lines
}

/// The first line of a program's standard error, without its prefix.
pub(super) fn complaint(output: &Output) -> String {
    let line = output.stderr.lines().next().unwrap_or("no answer");
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Why a pod's container does not run, in Kubernetes' own words.
fn why_down(pod: &Value, status: &Value) -> Option<String> {
    let state = &status["state"];
    if state["running"].is_object() {
        return None;
    }
    let phase = pod["status"]["phase"].as_str().unwrap_or("Unknown");
    let waiting = state["waiting"]["reason"].as_str();
    let ended = [&state["terminated"], &status["lastState"]["terminated"]];
    let ended = ended.into_iter().find_map(how_ended);
    Some(match (waiting, ended) {
        (Some(waiting), Some(ended)) => format!("{waiting} (last: {ended})"),
        (Some(waiting), None) => waiting.to_owned(),
        (None, Some(ended)) => ended,
        (None, None) => format!("its pod is {phase}"),
    })
}

/// How a container ended, in Kubernetes' own words.
fn how_ended(terminated: &Value) -> Option<String> {
    let reason = terminated.as_object()?.get("reason");
    let reason = reason.and_then(Value::as_str).unwrap_or("ended");
    Some(match terminated["exitCode"].as_i64() {
        Some(code) => format!("{reason}, exit code {code}"),
        None => reason.to_owned(),
    })
}

/// How many commands run at the same time: each is a connection through the API server.
const AT_ONCE: usize = 16;

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// An agent's pod on a node, with its container in this state.
    pub(in crate::cli::cluster) fn pod(name: &str, node: &str, state: &Value) -> Value {
        json!({
            "metadata": {"name": name},
            "spec": {"nodeName": node},
            "status": {
                "phase": "Running",
                "containerStatuses": [{
                    "name": "statlink", "restartCount": 4, "state": state,
                    "lastState": {"terminated": {"reason": "Error", "exitCode": 3}},
                }],
            },
        })
    }

    fn down(pod: &Value) -> Option<String> {
        Agent::of(pod).down
    }

    #[test]
    fn an_agent_that_runs_is_asked() {
        let agent = Agent::of(&pod("a", "node-1", &json!({"running": {}})));
        assert_eq!((agent.node.as_str(), agent.restarts), ("node-1", 4));
        assert_eq!(agent.down, None);
    }

    #[test]
    fn one_that_crashes_again_and_again_says_how() {
        let state = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let expected = "CrashLoopBackOff (last: Error, exit code 3)";
        assert_eq!(down(&pod("a", "n", &state)).as_deref(), Some(expected));
        let state = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
        let expected = "OOMKilled, exit code 137";
        assert_eq!(down(&pod("a", "n", &state)).as_deref(), Some(expected));
    }

    #[test]
    fn one_that_runs_for_a_moment_between_two_crashes_says_how_the_last_ended() {
        let agent = Agent::of(&pod("a", "n", &json!({"running": {}})));
        let expected = "container not found (last: Error, exit code 3)";
        assert_eq!(
            agent.no_answer(&anyhow::anyhow!("container not found")),
            expected
        );
    }

    #[test]
    fn one_that_was_never_started_says_its_phase() {
        let pending = json!({"metadata": {"name": "a"}, "status": {"phase": "Pending"}});
        assert_eq!(down(&pending).as_deref(), Some("its pod is Pending"));
        let answer = Answer::<()> {
            agent: Agent::of(&pending),
            answer: Err("its pod is Pending".to_owned()),
        };
        let line = answer.silence().unwrap();
        assert_eq!(line, "no answer from a on no node: its pod is Pending");
    }
}
