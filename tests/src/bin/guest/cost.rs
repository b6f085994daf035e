//! What the agent costs those who have nothing to do with it: system calls with it and without.
//!
//! In virtual time an instruction takes two nanoseconds, so this counts instructions.

use std::{hint::black_box, time::Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use statlink_tests::{agent, observe::quantile, scenario::Bed};

use crate::verdict::Verdicts;

/// A system call that is no connect(), and how it is called.
const CALLS: &[(&str, fn())] = &[("getppid", getppid), ("read", read)];

/// Alternates rounds with the agent and without, and judges that its hooks cost no other call anything
/// where they are functions' and not system calls'.
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

/// Nanoseconds of a call: of the shortest of several batches, into which nobody else came, neither the
/// kernel's own timers nor an agent that has just begun.
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
    // A descriptor that there is not: the shortest way through the kernel.
    // SAFETY: nothing is written, for the length is 0.
    black_box(unsafe { libc::read(-1, std::ptr::null_mut(), 0) });
}

/// As many as the page of measurements promises.
const ROUNDS: usize = 11;
const BATCHES: u32 = 21;
const CALLS_OF_BATCH: u32 = 500;
/// Of `-icount shift=1`.
const INSTRUCTION_NS: f64 = 2.0;
