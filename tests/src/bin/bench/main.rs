//! Measures the promised figures of an agent that watches Knative's own client and server, and
//! prints them beside their budgets and the last committed run. It asserts nothing.
//!
//! Compared figures are measured alternately in one run: with and without the agent, and with
//! `--vs` two builds of it. A run on a busy machine is less precise, but not wrong.

mod figures;
mod fleet;
mod floods;
mod growth;
mod last_run;
mod latency;
mod machine;
mod marks;
mod plot;
mod programs;
mod statistics;
mod storm;
mod table;
mod watch;
mod way;
mod wire;

use std::{
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use statlink_tests::{
    agent,
    observe::Observed,
    peer::{self, Activator, PORT, Traffic},
    scenario::Bed,
};

use self::{
    figures::{Figures, UNLIMITED, at_most},
    last_run::LastRun,
    machine::Machine,
};

/// Measures what the agent costs and how fast it is, beside the budgets and the last committed run
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench --", args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    scale: Option<Scale>,
    /// Fewer and shorter measurements: rougher figures in minutes
    #[arg(long)]
    quick: bool,
    /// Only these parts, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Measure another build of the agent alternately with this one: programs, storm and starts
    #[arg(long, value_name = "BINARY")]
    vs: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Save this run as the one that later runs are compared with: tests/bench/baseline.json
    #[arg(long)]
    save: bool,
}

/// What is measured at several sizes, instead.
#[derive(Debug, Subcommand)]
enum Scale {
    Fleet(fleet::Options),
    Growth(growth::Options),
}

/// A part that can be measured on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Kernel programs: instructions, and time per event
    Programs,
    /// Connections of others, with and without the agent
    Storm,
    /// Start, and memory of an agent that has just started
    Starts,
    /// One healthy link at rest
    Link,
    /// How soon a loss is known
    Latency,
    /// A link that is made and lost repeatedly
    Flaps,
    /// The exports of an agent without a link
    Wire,
    /// The watch of the Kubernetes API
    Watch,
    /// The cost of floods by strangers
    Floods,
}

impl Part {
    /// Whether two builds can be measured alternately.
    const fn compares(self) -> bool {
        matches!(self, Self::Programs | Self::Storm | Self::Starts)
    }
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        let asked = self.only.is_empty() || self.only.contains(&part);
        asked && (self.vs.is_none() || part.compares())
    }

    /// Refuses requests for figures that will not come.
    fn check(&self) -> Result<()> {
        let mut only = self.only.iter();
        match only.find(|part| self.vs.is_some() && !part.compares()) {
            None => Ok(()),
            Some(part) => bail!(
                "--vs compares programs, storm and starts; take the others out of --only ({part:?})"
            ),
        }
    }
}

/// The extent and the lengths of the measurements.
struct Plan {
    /// How often each kind of loss is injected.
    losses: usize,
    /// How long an idle agent is watched.
    idle: Duration,
    /// How long a link flaps.
    flapping: Duration,
    /// How long each flood is watched.
    flood: Duration,
    /// How many minutes an agent without a link is watched.
    minutes: u32,
}

const FULL: Plan = Plan {
    losses: 40,
    idle: Duration::from_secs(60),
    flapping: Duration::from_secs(600),
    flood: Duration::from_secs(30),
    minutes: 3,
};

const QUICK: Plan = Plan {
    losses: 5,
    idle: Duration::from_secs(10),
    flapping: Duration::from_secs(20),
    flood: Duration::from_secs(5),
    minutes: 1,
};

/// A build of the agent.
struct Build(Option<PathBuf>);

impl Build {
    fn options(&self, bed: &Bed) -> agent::Options {
        agent::Options {
            binary: self.0.clone(),
            ..bed.agent_options()
        }
    }
}

fn main() -> ExitCode {
    match bench(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<()> {
    match &options.scale {
        Some(Scale::Fleet(options)) => return fleet::run(options),
        Some(Scale::Growth(options)) => return growth::run(options),
        None => {}
    }
    options.check()?;
    // Read the load before the run makes its own.
    let machine = Machine::now();
    let last = LastRun::read()?;
    eprintln!("{}", machine.line());
    let figures = measure(options)?;
    if options.json {
        println!("{:#}", table::json(&figures, &last, &machine));
    } else {
        println!("\n{}\n\n{}", machine.line(), table::text(&figures, &last));
    }
    if options.save {
        last_run::save(&figures, &machine)?;
    }
    Ok(())
}

fn measure(options: &Options) -> Result<Figures> {
    let plan = if options.quick { QUICK } else { FULL };
    let wants = |part| options.wants(part);
    let mut figures = Figures::default();
    let mut bed = Bed::new()?;
    let mut builds = vec![Build(None)];
    if let Some(other) = &options.vs {
        let other = other.canonicalize();
        builds.push(Build(Some(other.context("the binary of --vs")?)));
    }

    if wants(Part::Programs) {
        eprintln!("each program of the kernel half");
        programs::measure(&mut bed, &builds, &mut figures)?;
    }
    if wants(Part::Storm) {
        eprintln!("connections of others, with and without the agent");
        storm::measure(&mut bed, &builds, &mut figures)?;
    }
    if wants(Part::Starts) {
        eprintln!("the agent starts {STARTS} times");
        starts(&mut bed, &builds, &mut figures)?;
    }
    let with_link = [Part::Link, Part::Latency, Part::Flaps];
    if with_link.into_iter().any(wants) {
        bed.start_agent()?;
        let second = Traffic::Every(Duration::from_secs(1));
        let mut activator = bed.activator("activator", second)?;
        activator.wait_connected(PATIENCE)?;
        bed.wait_reachable(&activator, 1, PATIENCE)?;
        if wants(Part::Link) {
            idle(&bed, plan.idle, &mut figures)?;
        }
        if wants(Part::Latency) {
            latency::measure(&mut bed, &mut activator, plan.losses, &mut figures)?;
        }
        if wants(Part::Flaps) {
            flap(&bed, plan.flapping, &mut figures)?;
        }
    }
    if wants(Part::Wire) {
        wire::measure(&mut bed, plan.minutes, &mut figures)?;
    }
    if wants(Part::Watch) {
        watch::measure(&mut bed, &mut figures)?;
    }
    if wants(Part::Floods) {
        floods::measure(&mut bed, plan.flood, &mut figures)?;
    }
    bed.check_invariants()?;
    Ok(figures)
}

/// The time from the start of the process to the line `Attached.` in its log, and the memory used.
fn starts(bed: &mut Bed, builds: &[Build], figures: &mut Figures) -> Result<()> {
    let none = || builds.iter().map(|_| Vec::new()).collect::<Vec<Vec<f64>>>();
    let (mut attach, mut ready) = (none(), none());
    let (mut peak, mut resident, mut anonymous) = (none(), none(), none());
    for _ in 0..STARTS {
        for (number, build) in builds.iter().enumerate() {
            let start = Instant::now();
            let options = without_link(build.options(bed));
            let agent = bed.start_agent_with(&options)?;
            push(&mut ready, number, start.elapsed().as_secs_f64() * 1e3);
            let attached = agent.process.wait_for("attached", PATIENCE, |line| {
                line.get("message") == "Attached."
            })?;
            if let Some(ms) = attached.get("attach_ms").as_f64() {
                push(&mut attach, number, ms);
            }
            thread::sleep(SETTLE);
            let agent = observed(bed)?;
            push(&mut peak, number, agent.peak_mb()?);
            push(&mut resident, number, agent.resident_mb()?);
            push(&mut anonymous, number, agent.anonymous_mb()?);
            bed.agent = None;
        }
    }
    figures.of_builds("load and attach", attach, "ms", at_most(100.0));
    figures.of_builds("start of the process to ready", ready, "ms", UNLIMITED);
    figures.of_builds("resident memory, no link", resident, "MB", at_most(10.0));
    let what = "of it, not pages of the executable";
    figures.of_builds(
        format!("resident memory, no link, {what}"),
        anonymous,
        "MB",
        UNLIMITED,
    );
    figures.of_builds("peak of memory, at start", peak, "MB", at_most(24.0));
    Ok(())
}

/// Options of an agent that has no link before an activator comes: the bed's autoscaler could forward stats.
fn without_link(options: agent::Options) -> agent::Options {
    options.env("STATLINK_LINKS", "activator")
}

fn push(all: &mut [Vec<f64>], number: usize, value: f64) {
    if let Some(of_build) = all.get_mut(number) {
        of_build.push(value);
    }
}

/// The cost of a healthy link.
fn idle(bed: &Bed, length: Duration, figures: &mut Figures) -> Result<()> {
    thread::sleep(SETTLE);
    eprintln!("one healthy link for {} s", length.as_secs());
    let agent = observed(bed)?;
    let cpu = agent.cpu()?;
    thread::sleep(length);
    let share = (agent.cpu()? - cpu).as_secs_f64() / length.as_secs_f64();
    let percent = "% of a core";
    figures.add(
        "CPU, one healthy link",
        share * 100.0,
        percent,
        at_most(0.03),
    );
    let resident = agent.resident_mb()?;
    figures.add(
        "resident memory, one healthy link",
        resident,
        "MB",
        at_most(10.0),
    );
    let (maps, programs) = agent.kernel_kb()?;
    let budget = at_most(1_024.0);
    figures.add(
        "kernel memory, maps and programs",
        maps + programs,
        "kB",
        budget,
    );
    figures.add("kernel memory, programs", programs, "kB", UNLIMITED);
    Ok(())
}

/// The cost of a link that is made and lost repeatedly.
fn flap(bed: &Bed, length: Duration, figures: &mut Figures) -> Result<()> {
    eprintln!(
        "a link made {RATE} times a second for {} s",
        length.as_secs()
    );
    let pod = bed.network.pod("sink")?;
    let _sink = peer::bad_server(&pod, ["sink", &format!("[::]:{PORT}")])?;
    let target = format!("{}:{PORT}", pod.v4);
    let count = length.as_secs() * RATE;
    let agent = observed(bed)?;
    let cpu = agent.cpu()?;
    let arguments = ["flap", &target, &RATE.to_string(), &count.to_string()];
    let mut flapping: Activator = bed.stand_in("flapping", &arguments)?;
    flapping
        .process
        .wait_event("flapped", length * 2 + PATIENCE)?;
    let share = (agent.cpu()? - cpu).as_secs_f64() / length.as_secs_f64();
    let what = format!("CPU, a link made {RATE} times a second");
    figures.add(what, share * 100.0, "% of a core", UNLIMITED);
    let what = format!("resident memory after {} s of it", length.as_secs());
    figures.add(what, agent.resident_mb()?, "MB", at_most(12.0));
    Ok(())
}

fn observed(bed: &Bed) -> Result<Observed> {
    let agent = bed.agent.as_ref().context("the agent was not started")?;
    Ok(Observed::new(agent.process.pid()))
}

const STARTS: usize = 7;
const RATE: u64 = 100;
/// By then the memory of the start is released.
const SETTLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        Options::parse_from(std::iter::once(&"bench").chain(arguments))
    }

    #[test]
    fn all_is_measured_unless_parts_are_named() {
        let parts = Part::value_variants();
        assert!(parts.iter().all(|part| options(&[]).wants(*part)));
        let some = options(&["--only", "wire,storm"]);
        let wanted: Vec<&Part> = parts.iter().filter(|part| some.wants(**part)).collect();
        assert_eq!(wanted, [&Part::Storm, &Part::Wire]);
    }

    #[test]
    fn two_builds_are_compared_where_they_can_be_and_else_that_is_said() {
        let all = options(&["--vs", "other"]);
        all.check().unwrap();
        assert!(all.wants(Part::Programs) && !all.wants(Part::Latency));
        let latency = options(&["--vs", "other", "--only", "storm,latency"]);
        let error = latency.check().unwrap_err().to_string();
        assert!(error.contains("(Latency)"), "{error}");
        options(&["--only", "latency"]).check().unwrap();
    }
}
