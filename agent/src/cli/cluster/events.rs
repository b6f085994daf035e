//! `statlink cluster events`: the events of all nodes' links, line by line as they arrive.

use std::io::{self, Write as _};

use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{
    api::Api,
    survey::{self, Agent},
};
use crate::{
    cli::events::text,
    terminal::{json_printable, printable},
};

/// Prints events until every agent is gone.
///
/// # Errors
///
/// If there are no agents, they cannot be listed, or standard output cannot be written; and when no
/// agent is left.
pub(super) async fn run(api: &Api, json: bool) -> anyhow::Result<()> {
    let agents = survey::agents(api).await?;
    let all = agents.len();
    // Lines of different agents never mix: no other task runs while one is printed.
    let mut followed = stream::iter(agents)
        .map(|agent| async move {
            let ended = follow(api, &agent, json).await;
            (agent, ended)
        })
        .buffer_unordered(all);
    while let Some((Agent { node, pod, .. }, ended)) = followed.next().await {
        let why = match ended {
            Ok(()) => "it has stopped".to_owned(),
            Err(error) if error.is::<io::Error>() => return Err(error),
            Err(error) => format!("{error:#}"),
        };
        let line = format!("no more events from {pod} on {node}: {why}");
        writeln!(io::stderr(), "{}", printable(&line))?;
    }
    anyhow::bail!("no agent is left to follow")
}

async fn follow(api: &Api, agent: &Agent, json: bool) -> anyhow::Result<()> {
    if let Some(why) = &agent.down {
        anyhow::bail!("{why}");
    }
    // The connection lasts as long as `_process` is held.
    let (stdout, _process) = api.follow(&agent.pod, &["events", "--json"]).await?;
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await.map_err(anyhow::Error::msg)? {
        let line = with_node(&line, &agent.node, json)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    Ok(())
}

/// A line of one agent, with its node added.
fn with_node(line: &str, node: &str, json: bool) -> anyhow::Result<String> {
    if !json {
        return Ok(format!("{}  {}", printable(node), text(line)?));
    }
    let mut event: Value = serde_json::from_str(line)?;
    if let Some(event) = event.as_object_mut() {
        event.insert("node".to_owned(), node.into());
    }
    Ok(json_printable(&event.to_string()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"at":1.5,"known_at":1.6,"peer":"autoscaler","namespace":"n","pod":"p","pid":3,"event":"idle"}"#;

    #[test]
    fn a_line_says_its_node() {
        let shown = with_node(LINE, "node-1\u{1b}", false).unwrap();
        assert_eq!(
            shown,
            "node-1\\u{1b}  1970-01-01T00:00:01.500Z  n/p  idle: no peer to be connected to"
        );
        let json = with_node(LINE, "node-1\u{9b}", true).unwrap();
        assert!(json.contains(r#""node":"node-1\u009b""#), "{json}");
        let json: Value = serde_json::from_str(&with_node(LINE, "node-1", true).unwrap()).unwrap();
        assert_eq!(
            (&json["node"], &json["pod"]),
            (&"node-1".into(), &"p".into())
        );
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        assert!(with_node("no", "node-1", true).is_err());
        assert!(with_node("no", "node-1", false).is_err());
    }
}
