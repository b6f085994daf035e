//! Facts about the agent on this kernel: its hooks, its start, its memory, and what it missed.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use statlink_tests::{agent, prototypes::Prototypes, scenario::Bed};

use crate::verdict::Verdicts;

/// Reports which hook targets this kernel has.
pub(crate) fn prototypes(verdicts: &mut Verdicts) -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read osrelease")?;
    verdicts.fact("kernel", release.trim());
    let data = fs::read("/sys/kernel/btf/vmlinux").context("read the kernel's BTF")?;
    let prototypes = Prototypes::of(&data)?;
    let mut found = serde_json::Map::new();
    for name in FUNCTIONS {
        found.insert((*name).to_owned(), json!(prototypes.function(name)?));
    }
    for name in TRACEPOINTS {
        found.insert((*name).to_owned(), json!(prototypes.tracepoint(name)?));
    }
    verdicts.fact("prototypes", found);
    Ok(())
}

/// Starts the agent, and reports what it says about this kernel.
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
    // From its log: nothing else says how connect() is seen, and how long attaching took.
    let lines = bed.agent.as_ref().context("no agent")?.process.lines();
    let attached = lines.iter().find(|line| line.get("message") == "Attached.");
    for fact in ["connect_hook", "attach_ms"] {
        let value = attached.map_or(Value::Null, |line| line.get(fact).clone());
        verdicts.fact(fact, value);
    }
    Ok(())
}

/// Reports its cost, and judges that it missed nothing.
pub(crate) fn end(verdicts: &mut Verdicts, bed: &Bed) -> Result<()> {
    let agent = bed.agent.as_ref().context("no agent")?;
    let pid = agent.process.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read its memory")?;
    let peak = status.lines().find_map(|line| {
        let value = line.strip_prefix("VmHWM:")?;
        value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    verdicts.fact("peak_memory_kb", peak.context("no VmHWM")?);
    // Unknown if the kernel does not count it.
    if let Some(misses) = recursion_misses(pid)? {
        let total: u64 = misses.iter().map(|(_, missed)| missed).sum();
        verdicts.fact("recursion_misses", total);
        let none = (total == 0)
            .then_some(())
            .with_context(|| format!("events that programs missed: {misses:?}"));
        verdicts.judge("agent", "misses no event", none);
    }
    let status = agent.status()?;
    verdicts.fact(
        "records_lost",
        status.get("records_lost").cloned().unwrap_or(Value::Null),
    );
    verdicts.judge("agent", "invariants", bed.check_invariants());
    Ok(())
}

/// For a person, after a failure: the agent's whole log, and whether it still runs.
pub(crate) fn show_log(bed: &mut Bed) {
    let Some(agent) = &mut bed.agent else { return };
    // An agent that is about to end logs the reason last.
    let end = agent.process.wait(LAST_WORDS);
    for line in agent.process.lines() {
        println!("agent: {}", line.text);
    }
    match end {
        Ok(status) => println!("agent: ended with {status}"),
        Err(_) => println!("agent: runs"),
    }
}

/// The programs whose file descriptors report missed events. Kernels before 5.12 report none:
/// `None`.
fn recursion_misses(pid: u32) -> Result<Option<Vec<(String, u64)>>> {
    let (mut misses, mut told) = (Vec::new(), false);
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("list its descriptors")? {
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue; // closed meanwhile
        };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
        };
        if let (Some(id), Some(missed)) = (field("prog_id:"), field("recursion_misses:")) {
            told = true;
            if let Ok(missed @ 1..) = missed.parse() {
                misses.push((format!("program {id}"), missed));
            }
        }
    }
    misses.sort();
    misses.dedup();
    Ok(told.then_some(misses))
}

/// The functions to which the agent's programs attach, as in `HOOKS`; an iterator is a function.
const FUNCTIONS: &[&str] = &[
    "inet_stream_connect",
    "inet_dgram_connect",
    "bpf_iter_task_file",
    "bpf_iter_task",
];
const TRACEPOINTS: &[&str] = &[
    "tcp_destroy_sock",
    "tcp_retransmit_skb",
    "inet_sock_set_state",
    "inet_sk_error_report",
    "sched_process_exec",
];

/// Time for an agent that is ending: it gives its tasks 200 ms.
const LAST_WORDS: Duration = Duration::from_secs(2);
