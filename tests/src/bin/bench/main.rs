//! Measures the promised figures on an agent at work beside Knative's own client and server, and prints
//! them with their budgets. It asserts nothing.

mod figures;
mod floods;
mod latency;
mod storm;
mod watch;

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use statlink_tests::{
    observe::Observed,
    peer::{self, Activator, PORT, Traffic},
    scenario::Bed,
};

use self::figures::Figures;

/// How much is measured, and for how long.
struct Plan {
    /// How often each kind of loss is injected.
    losses: usize,
    /// How long an idle agent is watched.
    idle: Duration,
    /// How long a link flaps.
    flapping: Duration,
    /// How long each flood is watched.
    flood: Duration,
}

const FULL: Plan = Plan {
    losses: 40,
    idle: Duration::from_secs(60),
    flapping: Duration::from_secs(600),
    flood: Duration::from_secs(30),
};

const QUICK: Plan = Plan {
    losses: 5,
    idle: Duration::from_secs(10),
    flapping: Duration::from_secs(20),
    flood: Duration::from_secs(5),
};

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] => FULL,
        ["--quick"] => QUICK,
        ["--floods"] => return floods(),
        _ => bail!(
            "usage: bench [--quick | --floods]\n  --quick   fewer and shorter: rougher figures in minutes\n  --floods  only what strangers cost"
        ),
    };
    let mut figures = Figures::default();
    let mut bed = Bed::new()?;

    println!("connections to an unrelated port, with and without the agent");
    storm::measure(&mut bed, &mut figures)?;
    println!("the agent starts {STARTS} times");
    starts(&mut bed, &mut figures)?;

    bed.start_agent()?;
    let second = Traffic::Every(Duration::from_secs(1));
    let mut activator = bed.activator("activator", second)?;
    activator.wait_connected(PATIENCE)?;
    bed.wait_reachable(&activator, 1, PATIENCE)?;
    idle(&bed, plan.idle, &mut figures)?;
    latency::measure(&mut bed, &mut activator, plan.losses, &mut figures)?;
    flap(&bed, plan.flapping, &mut figures)?;
    watch::measure(&mut bed, &mut figures)?;
    floods::measure(&mut bed, plan.flood, &mut figures)?;
    bed.check_invariants()?;
    println!("\n{figures}");
    Ok(())
}

/// The floods alone.
fn floods() -> Result<()> {
    let mut figures = Figures::default();
    let mut bed = Bed::new()?;
    floods::measure(&mut bed, FLOOD, &mut figures)?;
    println!("\n{figures}");
    Ok(())
}

/// From the start of the process to the line `Attached.` in its log.
fn starts(bed: &mut Bed, figures: &mut Figures) -> Result<()> {
    let (mut attach, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let start = Instant::now();
        let agent = bed.start_agent()?;
        ready.push(start.elapsed().as_secs_f64() * 1e3);
        let attached = agent.process.wait_for("attached", PATIENCE, |line| {
            line.get("message") == "Attached."
        })?;
        attach.extend(attached.get("attach_ms").as_f64());
        bed.agent = None;
    }
    figures.median("load and attach", attach, "ms", "≤ 200");
    figures.median("start of the process to ready", ready, "ms", "");
    Ok(())
}

/// The cost of a healthy link.
fn idle(bed: &Bed, length: Duration, figures: &mut Figures) -> Result<()> {
    // Memory of the start is released by then.
    thread::sleep(Duration::from_secs(2));
    println!("one healthy link for {} s", length.as_secs());
    let agent = observed(bed)?;
    let cpu = agent.cpu()?;
    thread::sleep(length);
    let share = (agent.cpu()? - cpu).as_secs_f64() / length.as_secs_f64();
    figures.add(
        "CPU, one healthy link",
        share * 100.0,
        "% of a core",
        "≤ 0.05",
    );
    figures.add(
        "resident memory, one healthy link",
        agent.resident_mb()?,
        "MB",
        "≤ 12",
    );
    figures.add("its peak, while loading", agent.peak_mb()?, "MB", "");
    let (maps, programs) = agent.kernel_kb()?;
    figures.add("kernel memory, maps", maps, "kB", "≤ 1024");
    figures.add("kernel memory, programs", programs, "kB", "");
    Ok(())
}

/// The cost of a link that is made and lost all the time.
fn flap(bed: &Bed, length: Duration, figures: &mut Figures) -> Result<()> {
    println!(
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
    figures.add(what, share * 100.0, "% of a core", "");
    let what = format!("resident memory after {} s of it", length.as_secs());
    figures.add(what, agent.resident_mb()?, "MB", "≤ 12");
    Ok(())
}

fn observed(bed: &Bed) -> Result<Observed> {
    let agent = bed.agent.as_ref().context("the agent was not started")?;
    Ok(Observed::new(agent.process.pid()))
}

const STARTS: usize = 7;
const RATE: u64 = 100;
/// Long enough for several of the agent's looks at who is there.
const FLOOD: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);
