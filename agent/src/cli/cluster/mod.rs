//! `statlink cluster`, and `kubectl statlink`: all agents of a cluster at once, with the user's own
//! kubeconfig and rights.
//!
//! | module | |
//! |---|---|
//! | `access` | where the agents are and how to reach them: the flags of all commands |
//! | `api` | requests to the Kubernetes API: pods, nodes, logs, commands in pods |
//! | `survey` | the agents, and which of them answer |
//! | `status`, `events`, `check` | the commands of one agent, for all agents |
//! | `why` | the story of one activator, in plain words |
//! | `dump`, `redact` | a bundle for the person who is asked for help, without secrets |
//!
//! Nothing here decides about links: the agents report their own state.

#![expect(
    clippy::indexing_slicing,
    reason = "what a JSON value does not have is null"
)]

mod access;
mod api;
mod check;
mod dump;
mod events;
mod redact;
mod status;
mod survey;
mod why;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::Subcommand;

pub(super) use self::access::Access;
use self::api::Api;
use super::exit::DONE;

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Show every link of the cluster in one table
    ///
    /// With the node and the agent's version; unreachable links come first. Also names agents that
    /// do not answer, with the reason, and activators that no agent reports.
    Status,
    /// Print the events of all nodes' links as they happen
    Events,
    /// Run `statlink check` on every node
    ///
    /// The exit code is the worst of all.
    Check,
    /// Tell the story of one activator: is it connected, since when, why not, and what to do
    Why {
        /// Its pod: NAME, or NAMESPACE/NAME
        pod: String,
    },
    /// Write a bundle for the person who is asked for help, without secrets
    ///
    /// Versions, nodes with their kernels, checks, status, the activators and the autoscaler's
    /// addresses, the agents' logs and those of their crashed predecessors. errors.txt names what is
    /// missing.
    Dump {
        /// A directory to make [default: statlink-dump-TIME]
        #[arg(long, short, value_name = "DIRECTORY")]
        output: Option<PathBuf>,
    },
}

/// Inserts `cluster` into the arguments if the program was called by the name that kubectl looks
/// for: `kubectl statlink status` runs `kubectl-statlink status`.
pub(super) fn as_plugin(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments
        .first()
        .and_then(|program| Path::new(program).file_stem());
    if name.is_some_and(|name| name == PLUGIN) {
        arguments.insert(1, "cluster".into());
    }
    arguments
}

/// Runs one of the commands; returns the exit code.
///
/// # Errors
///
/// If the cluster cannot be reached at all, or standard output cannot be written.
pub(super) fn run(access: &Access, command: &ClusterCommand) -> anyhow::Result<u8> {
    // One thread is enough to wait for many agents.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let api = Api::connect(access).await?;
        match command {
            ClusterCommand::Status => status::run(&api, access.json).await,
            ClusterCommand::Events => events::run(&api, access.json).await.map(|()| DONE),
            ClusterCommand::Check => check::run(&api, access.json).await,
            ClusterCommand::Why { pod } => why::run(&api, pod, access.json).await,
            ClusterCommand::Dump { output } => dump::run(&api, output.as_deref()).await,
        }
    })
}

/// The file name by which kubectl finds the plugin for `kubectl statlink`.
const PLUGIN: &str = "kubectl-statlink";
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectls_name_for_it_means_the_cluster() {
        let given = |program: &str| {
            let arguments = as_plugin(vec![program.into(), "status".into()]);
            arguments
                .into_iter()
                .map(|argument| argument.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        let plugin = given("/usr/local/bin/kubectl-statlink");
        assert_eq!(plugin[1..], ["cluster", "status"]);
        assert_eq!(given("kubectl-statlink.exe")[1..], ["cluster", "status"]);
        assert_eq!(given("statlink")[1..], ["status"]);
        assert_eq!(as_plugin(Vec::new()), Vec::<OsString>::new());
    }
}
