//! `statlink cluster dump`: a bundle for the person who is asked for help.
//!
//! Each part is collected on its own: a sick agent, or a right that the user lacks, costs only that
//! part and adds a line to errors.txt. Everything passes through [`redact`].

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    api::{Api, encoded},
    redact,
    survey::{self, Agent},
};
use crate::cli::exit::{DONE, FAILED};

/// A bundle that is being written.
struct Bundle {
    directory: PathBuf,
    errors: Vec<String>,
}

/// Collects the bundle and prints its path. The exit code says whether anything is missing.
///
/// # Errors
///
/// If the directory cannot be written, or exists.
pub(super) async fn run(api: &Api, output: Option<&Path>) -> anyhow::Result<u8> {
    let mut bundle = Bundle::create(output)?;
    bundle.version(api).await?;
    bundle.nodes(api).await?;
    bundle.activators(api).await?;
    bundle.addresses(api).await?;
    match survey::agents(api).await {
        Ok(agents) => {
            for agent in agents {
                bundle.agent(api, &agent).await?;
            }
        }
        Err(error) => bundle.note("agents", &error),
    }
    bundle.object("daemonset.json", api.get(&daemon_sets(api)).await)?;
    bundle.finish()
}

impl Bundle {
    fn create(output: Option<&Path>) -> anyhow::Result<Self> {
        let directory = output.map_or_else(default_directory, Path::to_owned);
        // Add nothing to a directory that exists already.
        fs::create_dir(&directory)
            .with_context(|| format!("make the directory {}", directory.display()))?;
        Ok(Self {
            directory,
            errors: Vec::new(),
        })
    }

    async fn version(&mut self, api: &Api) -> anyhow::Result<()> {
        let server = api.get("/version").await;
        let version = server.map(|server| {
            json!({"statlink": env!("CARGO_PKG_VERSION"), "kubernetes": server["gitVersion"]})
        });
        self.object("versions.json", version)
    }

    /// Only what the node runs, such as its name and kernel, and no address.
    async fn nodes(&mut self, api: &Api) -> anyhow::Result<()> {
        let nodes = api.list("/api/v1/nodes", "").await;
        let nodes = nodes.map(|nodes| nodes.iter().map(node).collect());
        self.object("nodes.json", nodes)
    }

    async fn activators(&mut self, api: &Api) -> anyhow::Result<()> {
        let pods = api.activators().await;
        let pods = pods.map(|pods| pods.iter().map(pod).collect());
        self.object("activators.json", pods)
    }

    /// The autoscaler's Service and its slices.
    async fn addresses(&mut self, api: &Api) -> anyhow::Result<()> {
        let namespace = encoded(&api.serving_namespace);
        let service = format!("/api/v1/namespaces/{namespace}/services/autoscaler");
        self.object("service.json", api.get(&service).await)?;
        let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
        let slices = api.list(&slices, "kubernetes.io/service-name=autoscaler");
        self.object("endpointslices.json", slices.await.map(Value::Array))
    }

    async fn agent(&mut self, api: &Api, agent: &Agent) -> anyhow::Result<()> {
        let Agent { pod, down, .. } = agent;
        let file = |name: &str| format!("agents/{pod}/{name}");
        self.object(&file("agent.json"), Ok(json!(agent)))?;
        // An agent that does not run cannot answer; its logs say why.
        match down {
            Some(why) => self.note(pod, &anyhow::anyhow!("{why}")),
            None => {
                for command in ["status", "check"] {
                    let printed = api.run(pod, &[command, "--json"]).await;
                    let printed = printed.and_then(|printed| {
                        serde_json::from_str(&printed.stdout).with_context(|| printed.stderr)
                    });
                    let printed = printed.map_err(|error| anyhow::anyhow!(agent.no_answer(&error)));
                    self.object(&file(&format!("{command}.json")), printed)?;
                }
            }
        }
        self.text(&file("log.txt"), api.log(pod, false).await)?;
        // The kubelet keeps one ended container: the predecessor's, unless this one has ended, too.
        // Then its own log says why.
        if agent.restarts > 0 {
            self.text(&file("log-of-predecessor.txt"), api.log(pod, true).await)?;
        }
        Ok(())
    }

    fn object(&mut self, name: &str, object: anyhow::Result<Value>) -> anyhow::Result<()> {
        let text = object.and_then(|mut object| {
            redact::object(&mut object);
            Ok(serde_json::to_string_pretty(&object)?)
        });
        self.write(name, text)
    }

    fn text(&mut self, name: &str, text: anyhow::Result<String>) -> anyhow::Result<()> {
        let lines = text.map(|text| {
            let lines = text.lines().map(redact::text);
            lines.collect::<Vec<_>>().join("\n")
        });
        self.write(name, lines)
    }

    fn write(&mut self, name: &str, text: anyhow::Result<String>) -> anyhow::Result<()> {
        match text {
            Ok(text) => write(&self.directory.join(name), &text),
            Err(error) => {
                self.note(name, &error);
                Ok(())
            }
        }
    }

    fn note(&mut self, what: &str, error: &anyhow::Error) {
        self.errors
            .push(redact::text(&format!("{what}: {error:#}")));
    }

    fn finish(self) -> anyhow::Result<u8> {
        let directory = self.directory.display();
        if self.errors.is_empty() {
            println!("{directory}");
            return Ok(DONE);
        }
        write(&self.directory.join("errors.txt"), &self.errors.join("\n"))?;
        let count = self.errors.len();
        println!("{directory} ({count} parts could not be had: errors.txt)");
        Ok(FAILED)
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("make the directory {}", parent.display()))?;
    }
    fs::write(path, format!("{text}\n")).with_context(|| format!("write {}", path.display()))
}

fn default_directory() -> PathBuf {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    PathBuf::from(format!("statlink-dump-{}", now.replace(':', "")))
}

fn daemon_sets(api: &Api) -> String {
    let namespace = encoded(&api.namespace);
    format!("/apis/apps/v1/namespaces/{namespace}/daemonsets")
}

fn node(node: &Value) -> Value {
    let info = &node["status"]["nodeInfo"];
    json!({
        "name": node["metadata"]["name"],
        "kernel": info["kernelVersion"],
        "os": info["osImage"],
        "architecture": info["architecture"],
        "runtime": info["containerRuntimeVersion"],
        "kubelet": info["kubeletVersion"],
    })
}

fn pod(pod: &Value) -> Value {
    json!({
        "name": pod["metadata"]["name"],
        "node": pod["spec"]["nodeName"],
        "deletionTimestamp": pod["metadata"]["deletionTimestamp"],
        "status": {
            "phase": pod["status"]["phase"],
            "conditions": pod["status"]["conditions"],
            "containerStatuses": pod["status"]["containerStatuses"],
        },
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn bundle(home: &TempDir) -> Bundle {
        Bundle::create(Some(&home.path().join("dump"))).unwrap()
    }

    #[test]
    fn a_part_that_cannot_be_had_is_named_and_the_rest_is_written() {
        let home = TempDir::new().unwrap();
        let mut bundle = bundle(&home);
        let directory = bundle.directory.clone();
        bundle
            .object("a.json", Ok(json!({"token": "abc"})))
            .unwrap();
        let refused = anyhow::anyhow!("forbidden, by token=abc");
        bundle.object("b.json", Err(refused)).unwrap();
        let log = "one\nsent Bearer abc\n".to_owned();
        bundle.text("agents/x/log.txt", Ok(log)).unwrap();
        assert_eq!(bundle.finish().unwrap(), FAILED);
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        assert_eq!(read("agents/x/log.txt"), "one\nsent Bearer (left out)\n");
        assert_eq!(
            read("errors.txt"),
            "b.json: forbidden, by token=(left out)\n"
        );
        assert!(!read("a.json").contains("abc"));
        assert!(!directory.join("b.json").exists());
    }

    #[test]
    fn a_directory_that_exists_is_left_alone() {
        let home = TempDir::new().unwrap();
        bundle(&home);
        assert!(Bundle::create(Some(&home.path().join("dump"))).is_err());
    }

    #[test]
    fn of_a_node_only_what_it_runs_is_told() {
        let told = node(&json!({
            "metadata": {"name": "node-1", "labels": {"customer": "x"}},
            "status": {"addresses": [{"address": "10.0.0.1"}], "nodeInfo": {"kernelVersion": "6.18.0"}},
        }));
        assert_eq!(
            (&told["name"], &told["kernel"]),
            (&"node-1".into(), &"6.18.0".into())
        );
        assert!(!told.to_string().contains("10.0.0.1"));
    }
}
