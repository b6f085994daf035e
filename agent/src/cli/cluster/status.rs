//! `statlink cluster status`: every link of the cluster, in one table.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    time::Duration,
};

use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    api::{Api, Output},
    survey::{self, Agent, Answer},
};
use crate::{
    cli::{
        exit::{DONE, FAILED},
        status::since,
    },
    runbook,
    terminal::{printable, write_json},
};

/// The part of `statlink status --json` that is shown here. Agents of other versions may print more
/// or fewer fields; a missing field is empty.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) hooks_missing: Vec<String>,
    pub(super) links: Vec<Link>,
}

/// One link.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Link {
    pub(super) peer: String,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) state: String,
    pub(super) since_seconds: Option<f64>,
    pub(super) cause: Option<String>,
    pub(super) unknown_reason: Option<String>,
    pub(super) peer_address: Option<String>,
    pub(super) rtt_seconds: Option<f64>,
    pub(super) checks: u64,
    pub(super) errors: u64,
    pub(super) connects: u64,
    /// Fields that only JSON shows.
    #[serde(flatten)]
    pub(super) rest: serde_json::Map<String, Value>,
}

/// The whole cluster.
#[derive(Debug, Serialize)]
pub(super) struct Overview {
    agents: Vec<AgentRow>,
    links: Vec<Row>,
    /// Running activators that no agent reports.
    unobserved: Vec<Unobserved>,
}

#[derive(Debug, Serialize)]
struct AgentRow {
    #[serde(flatten)]
    agent: Agent,
    version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hooks_missing: Vec<String>,
    /// Why it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    node: String,
    agent_version: String,
    #[serde(flatten)]
    link: Link,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Unobserved {
    namespace: String,
    pod: String,
    node: String,
}

/// Prints the table. The exit code says whether every agent answered.
///
/// # Errors
///
/// If there are no agents, they cannot be listed, or standard output cannot be written.
pub(super) async fn run(api: &Api, json: bool) -> anyhow::Result<u8> {
    let answers = ask(api).await?;
    let silent = survey::footer(&answers);
    // Without the right to list them, the table has only what the agents report.
    let activators = api.activators().await.unwrap_or_default();
    let overview = Overview::of(answers, &activators);
    let mut out = io::stdout().lock();
    if json {
        write_json(&mut out, &serde_json::to_string(&overview)?)?;
    } else {
        overview.write(&mut out, &silent)?;
    }
    Ok(if silent.is_empty() { DONE } else { FAILED })
}

/// Asks every agent for its status.
pub(super) async fn ask(api: &Api) -> anyhow::Result<Vec<Answer<Status>>> {
    let agents = survey::agents(api).await?;
    Ok(survey::ask(api, agents, &["status", "--json"], read).await)
}

fn read(output: &Output) -> Result<Status, String> {
    if output.code != 0 {
        return Err(survey::complaint(output));
    }
    serde_json::from_str(&output.stdout)
        .map_err(|error| format!("an answer not understood: {error}"))
}

impl Overview {
    fn of(answers: Vec<Answer<Status>>, activators: &[Value]) -> Self {
        let mut agents = Vec::new();
        let mut links = Vec::new();
        for Answer { agent, answer } in answers {
            let node = agent.node.clone();
            let mut row = AgentRow {
                agent,
                version: None,
                hooks_missing: Vec::new(),
                error: None,
            };
            match answer {
                Ok(status) => {
                    links.extend(status.links.into_iter().map(|link| Row {
                        node: node.clone(),
                        agent_version: status.version.clone(),
                        link,
                    }));
                    row.version = Some(status.version);
                    row.hooks_missing = status.hooks_missing;
                }
                Err(error) => row.error = Some(error),
            }
            agents.push(row);
        }
        // Links with problems come first.
        links.sort_by(|one, other| key(one).cmp(&key(other)));
        let unobserved = unobserved(&links, activators);
        Self {
            agents,
            links,
            unobserved,
        }
    }

    fn write(&self, out: &mut impl Write, silent: &[String]) -> io::Result<()> {
        if self.links.is_empty() && self.unobserved.is_empty() {
            writeln!(out, "no activator or autoscaler is known\n")?;
        } else {
            writeln!(out, "{}\n\n{}", self.table(), self.summary())?;
        }
        let answering = self.agents.iter().filter_map(|row| row.version.as_deref());
        let versions: BTreeSet<&str> = answering.clone().collect();
        let versions: Vec<_> = versions.into_iter().map(printable).collect();
        let (count, all) = (answering.count(), self.agents.len());
        writeln!(
            out,
            "{count} of {all} agents answer; version {}",
            if versions.is_empty() {
                "not known".to_owned()
            } else {
                versions.join(", ")
            }
        )?;
        for row in &self.agents {
            for hook in &row.hooks_missing {
                let (node, hook) = (printable(&row.agent.node), printable(hook));
                writeln!(out, "hook {hook} is not attached on {node}")?;
            }
        }
        for line in silent {
            writeln!(out, "{line}")?;
        }
        if !self.unobserved.is_empty() {
            writeln!(out, "runbook: {}", runbook::UNOBSERVED.url())?;
        }
        Ok(())
    }

    /// The number of links in each state. Only the end of a long table stays on the screen, so the
    /// summary is there.
    fn summary(&self) -> String {
        let mut counts = BTreeMap::new();
        for row in &self.links {
            let state = (key(row).0, row.link.state.as_str());
            *counts.entry(state).or_insert(0_usize) += 1;
        }
        if !self.unobserved.is_empty() {
            counts.insert((0, "unobserved"), self.unobserved.len());
        }
        let counts = counts.into_iter();
        let counts = counts.map(|((_, state), count)| format!("{count} {}", printable(state)));
        counts.collect::<Vec<_>>().join(", ")
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header([
            "POD", "PEER", "STATE", "SINCE", "CAUSE", "RTT", "ERRORS", "NODE", "AGENT",
        ]);
        for one in &self.unobserved {
            let pod = format!("{}/{}", one.namespace, one.pod);
            let node = or_dash(Some(one.node.clone()).filter(|node| !node.is_empty()));
            let dash = || "-".to_owned();
            table.add_row([
                printable(&pod).into_owned(),
                dash(),
                "unobserved".to_owned(),
                dash(),
                dash(),
                dash(),
                dash(),
                printable(&node).into_owned(),
                dash(),
            ]);
        }
        for Row {
            node,
            agent_version,
            link,
        } in &self.links
        {
            let pod = format!("{}/{}", link.namespace, link.pod);
            let why = link.cause.clone().or_else(|| link.unknown_reason.clone());
            let cells = [
                pod,
                link.peer.clone(),
                link.state.clone(),
                or_dash(link.since().map(since)),
                or_dash(why),
                or_dash(link.rtt_seconds.map(|rtt| format!("{:.2}ms", rtt * 1e3))),
                link.errors.to_string(),
                or_dash(Some(node.clone()).filter(|node| !node.is_empty())),
                agent_version.clone(),
            ];
            table.add_row(cells.map(|cell| printable(&cell).into_owned()));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt()
    }
}

impl Link {
    /// How long the state has lasted; `None` if the value is no duration.
    pub(super) fn since(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.since_seconds?).ok()
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// Orders rows: unreachable links, then unknown ones, then the rest; by name.
fn key(row: &Row) -> (u8, &str, &str, &str) {
    let Link {
        state,
        namespace,
        pod,
        peer,
        ..
    } = &row.link;
    let rank = match state.as_str() {
        "unreachable" => 0,
        // An idle link has nothing to connect to.
        "idle" => 4,
        "reachable" => 3,
        "starting" | "ended" => 2,
        // `unknown`, and states of later versions.
        _ => 1,
    };
    (rank, namespace, pod, peer)
}

/// Activators that run, are not being deleted, and have no row.
fn unobserved(links: &[Row], activators: &[Value]) -> Vec<Unobserved> {
    let known: BTreeSet<_> = links
        .iter()
        .map(|row| (row.link.namespace.as_str(), row.link.pod.as_str()))
        .collect();
    let running = activators.iter().filter(|pod| {
        pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut unobserved: Vec<_> = running
        .map(|pod| Unobserved {
            namespace: text(&pod["metadata"]["namespace"]),
            pod: text(&pod["metadata"]["name"]),
            node: text(&pod["spec"]["nodeName"]),
        })
        .filter(|pod| !known.contains(&(pod.namespace.as_str(), pod.pod.as_str())))
        .collect();
    unobserved.sort();
    unobserved
}

#[cfg(test)]
mod tests;
