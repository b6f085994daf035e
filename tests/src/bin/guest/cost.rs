//! The agent's cost for unrelated processes: system calls with and without it.
//!
//! In virtual time an instruction takes two nanoseconds, so this counts instructions.

use std::{hint::black_box, time::Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use statlink_tests::{agent, observe::quantile, scenario::Bed};

use crate::verdict::Verdicts;

/// A system call other than connect(), and how to call it.
const CALLS: &[(&str, fn())] = &[("getppid", getppid), ("read", read)];

/// Alternates rounds with and without the agent, and judges that its hooks add nothing to other
/// calls if they attach to functions and not to system calls.
pub(crate) fn all(verdicts: &mut Verdicts, bed: &mut Bed, options: &agent::Options) -> Result<()> {
    let mut rounds: Vec<_> = CALLS.iter().map(|_| (Vec::new(), Vec::new())).collect();
    let mut hook = String::new();
    for _ in 0..ROUNDS {
        for ((_, call), (without, _)) in CALLS.iter().zip(&mut rounds) {
            without.push(round(*call));
        }
        let agent = bed.start_agent_with(options)?;
        for ((_, call), (_, with)) in CALLS.iter().zip(&mut rounds) {
            with.push(round(*call));
        }
        let lines = agent.process.lines();
        let attached = lines.iter().find(|line| line.get("message") == "Attached.");
        let attached = attached.context("the agent attached nothing")?;
        hook = attached
            .get("connect_hook")
            .as_str()
            .unwrap_or_default()
            .to_owned();
        bed.agent = None;
    }
    for ((name, _), (mut without, mut with)) in CALLS.iter().zip(rounds) {
        let median = |rounds: &mut Vec<f64>| quantile(rounds, 0.5).context("no round");
        let (without, with) = (median(&mut without)?, median(&mut with)?);
        verdicts.fact(
            &format!("{name}_ns"),
            json!({ "without": without, "with": with }),
        );
        if hook == "fexit" {
            verdicts.judge("cost", name, free(without, with));
        }
    }
    Ok(())
}

/// Not one instruction more.
fn free(without: f64, with: f64) -> Result<()> {
    ensure!(
        with - without < INSTRUCTION_NS,
        "{without:.1} ns without the agent, {with:.1} ns with it"
    );
    Ok(())
}

/// Nanoseconds of a call, from the shortest of several batches, which nothing else interrupted:
/// neither the kernel's own timers nor an agent that has just started.
fn round(call: fn()) -> f64 {
    let batches = (0..BATCHES).map(|_| {
        let begin = Instant::now();
        for _ in 0..CALLS_OF_BATCH {
            call();
        }
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS_OF_BATCH)
    });
    batches.fold(f64::INFINITY, f64::min)
}

fn getppid() {
    black_box(rustix::process::getppid());
}

fn read() {
    // A descriptor that does not exist: the shortest path through the kernel.
    // SAFETY: nothing is written, because the length is 0.
    black_box(unsafe { libc::read(-1, std::ptr::null_mut(), 0) });
}

/// As many as the page of measurements promises.
const ROUNDS: usize = 11;
const BATCHES: u32 = 21;
const CALLS_OF_BATCH: u32 = 500;
/// The value for `-icount shift=1`.
const INSTRUCTION_NS: f64 = 2.0;
