//! What the agent is like on this kernel: its hooks, its start, its memory, what it missed.

use std::{fs, time::Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use statlink_tests::{agent, scenario::Bed};

use crate::verdict::Verdicts;

/// Starts the agent, and tells what it says of this kernel.
pub(crate) fn start(
    verdicts: &mut Verdicts,
    bed: &mut Bed,
    options: &agent::Options,
) -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read osrelease")?;
    verdicts.fact("kernel", release.trim());
    let begin = Instant::now();
    let started = bed.start_agent_with(options).map(drop);
    let took = begin.elapsed();
    let failed = started.as_ref().err().map(|error| format!("{error:#}"));
    verdicts.judge("agent", "starts", started);
    ensure!(failed.is_none(), "no agent: {}", failed.unwrap_or_default());
    verdicts.fact("start_seconds", took.as_secs_f64());
    let status = bed.agent.as_ref().context("no agent")?.status()?;
    let missing = status.get("hooks_missing").cloned().unwrap_or(Value::Null);
    verdicts.fact("hooks_missing", missing);
    // As its log says: nothing else tells how connect() is seen.
    let agent = bed.agent.as_ref().context("no agent")?;
    let lines = agent.process.lines();
    let attached = lines.iter().find(|line| line.get("message") == "Attached.");
    let way = attached.map_or(Value::Null, |line| line.get("connect_hook").clone());
    verdicts.fact("connect_hook", way);
    Ok(())
}

/// Tells what it took, and judges that nothing was missed.
pub(crate) fn end(verdicts: &mut Verdicts, bed: &Bed) -> Result<()> {
    let agent = bed.agent.as_ref().context("no agent")?;
    let pid = agent.process.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read its memory")?;
    let peak = status.lines().find_map(|line| {
        let value = line.strip_prefix("VmHWM:")?;
        value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    verdicts.fact("peak_memory_kb", peak.context("no VmHWM")?);
    let misses = recursion_misses(pid)?;
    let total: u64 = misses.iter().map(|(_, missed)| missed).sum();
    verdicts.fact("recursion_misses", total);
    let none = (total == 0)
        .then_some(())
        .with_context(|| format!("events that programs missed: {misses:?}"));
    verdicts.judge("agent", "misses no event", none);
    let status = agent.status()?;
    verdicts.fact(
        "records_lost",
        status.get("records_lost").cloned().unwrap_or(Value::Null),
    );
    verdicts.judge("agent", "invariants", bed.check_invariants());
    if !verdicts.are_good() {
        for line in agent.process.lines() {
            println!("agent: {}", line.text);
        }
    }
    Ok(())
}

/// What each program's file descriptor says; kernels before 5.12 do not.
fn recursion_misses(pid: u32) -> Result<Vec<(String, u64)>> {
    let mut misses = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("list its descriptors")? {
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue; // closed meanwhile
        };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
        };
        if let (Some(id), Some(missed)) = (field("prog_id:"), field("recursion_misses:"))
            && let Ok(missed @ 1..) = missed.parse()
        {
            misses.push((format!("program {id}"), missed));
        }
    }
    misses.sort();
    misses.dedup();
    Ok(misses)
}
