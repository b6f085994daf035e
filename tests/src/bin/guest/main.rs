//! The judge inside a guest of `cargo xtask vm`: are the agent's reports true on this kernel?
//!
//! Real peers, a real Collector and faults, as in `tests/peers`, but one after another on one node
//! and without Cargo: a guest has a few programs and a serial line. Its results go to standard
//! output, one per line:
//!
//! - `@fact {"name": …, "value": …}`: a property of the kernel, the hooks or the agent
//! - `@judged {"case": …, "what": …, "ok": …, "detail": …}`: one judgement
//! - `@end {"passed": …, "failed": …}`: the end, so that nothing is missing
//!
//! Everything else is for people, most of all the agent's log after a failure.

mod agent_facts;
mod campaign;
mod cases;
mod cost;
mod links;
mod restarts;
mod verdict;
mod weather;

use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use statlink_tests::{agent, mock_api::MockApi, scenario::Bed};

use links::Links;
use verdict::Verdicts;

#[derive(Debug, Parser)]
struct Options {
    /// The profile of the agent
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Only cases whose names contain one of these, separated by commas
    #[arg(long, default_value = "")]
    only: String,
    /// Report facts about the kernel and the agent's cost in it, and judge no case
    #[arg(long)]
    facts: bool,
    /// Play 60 faults in a random order and weather, which this number repeats, instead of each
    /// case once
    #[arg(long, value_name = "SEED")]
    campaign: Option<u64>,
    /// Flags of `statlink run`
    #[arg(last = true)]
    agent: Vec<String>,
}

/// The chart's two profiles.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Profile {
    /// All of root's capabilities; activators are named by their environment
    #[default]
    Privileged,
    /// CAP_BPF and CAP_PERFMON alone, no tracefs; activators are named by the Kubernetes API
    Restricted,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut verdicts = Verdicts::new(&options.only);
    // An error that ends the run early is a bad judgement, too.
    if let Err(error) = judge(&options, &mut verdicts) {
        verdicts.judge("guest", "judges all", Err(error));
    }
    verdicts.end()
}

fn judge(options: &Options, verdicts: &mut Verdicts) -> Result<()> {
    let mut bed = Bed::new()?;
    if options.facts {
        agent_facts::prototypes(verdicts)?;
        let agent = agent_options(options, &bed, None);
        return cost::all(verdicts, &mut bed, &agent);
    }
    // They are connected before the agent starts: it has to find their connections.
    let mut links = Links::start(&bed)?;
    let api = match options.profile {
        Profile::Privileged => None,
        Profile::Restricted => Some(links.api(&bed)?),
    };
    let agent = agent_options(options, &bed, api.as_ref());
    let judged = match options.campaign {
        None => judge_agent(verdicts, &mut bed, &agent, &mut links),
        Some(seed) => campaign::play(seed, verdicts, &mut bed, &agent, &mut links),
    };
    if judged.is_err() || !verdicts.are_good() {
        agent_facts::show_log(&mut bed);
    }
    judged
}

fn judge_agent(
    verdicts: &mut Verdicts,
    bed: &mut Bed,
    agent: &agent::Options,
    links: &mut Links,
) -> Result<()> {
    agent_facts::start(verdicts, bed, agent)?;
    restarts::older_connections(verdicts, bed, links);
    cases::all(verdicts, bed, links)?;
    restarts::killed_agent(verdicts, bed, agent, links)?;
    weather::all(verdicts, bed, links)?;
    agent_facts::end(verdicts, bed)
}

fn agent_options(options: &Options, bed: &Bed, api: Option<&MockApi>) -> agent::Options {
    let mut agent = bed.agent_options();
    for flag in &options.agent {
        agent = agent.arg(flag);
    }
    match api {
        Some(api) => agent::Options {
            capabilities: Some("bpf,perfmon"),
            ..agent
                .arg("--kubernetes=on")
                .arg("--node-name=guest")
                .env("KUBECONFIG", api.kubeconfig())
        },
        None => agent,
    }
}

/// The slowest report comes within 10 s; an emulated machine gets more time.
const PATIENCE: Duration = Duration::from_secs(30);
