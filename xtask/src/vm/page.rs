//! The page for operators that lists the kernels on which the agent was judged.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;

use crate::workspace::Workspace;

pub(super) fn path(workspace: &Workspace) -> PathBuf {
    workspace.root.join("deploy/docs/kernels.md")
}

/// The whole page.
pub(super) fn text(rows: &BTreeMap<String, Value>) -> String {
    let mut text = HEAD.to_owned();
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by_key(|(name, row)| (order(row), (*name).clone()));
    for (_, row) in sorted {
        text.push_str(&line(row));
    }
    text.push_str(TAIL);
    text
}

/// amd64 before arm64, old before new.
fn order(row: &Value) -> (String, Vec<u32>) {
    let release = field(row, "kernel");
    let numbers = release.split(|c: char| !c.is_ascii_digit());
    (
        field(row, "architecture"),
        numbers.filter_map(|number| number.parse().ok()).collect(),
    )
}

fn line(row: &Value) -> String {
    let boot = match field(row, "boot") {
        boot if boot.is_empty() => boot,
        boot => format!(", `{boot}`"),
    };
    let failures = row
        .get("failures")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    let result = match failures {
        0 => format!("right ({})", number(row, "passed")),
        failures => format!("**{failures} wrong**, {} right", number(row, "passed")),
    };
    let missing: Vec<_> = row
        .get("hooks_missing")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let missing = if missing.is_empty() {
        "none".to_owned()
    } else {
        format!("`{}`", missing.join("`, `"))
    };
    let faults = match row.get("campaign") {
        Some(Value::Bool(true)) => ", campaign",
        _ => "",
    };
    let time = match row.get("real_time") {
        Some(Value::Bool(true)) => "real",
        _ => "virtual",
    };
    let memory = row.get("peak_memory_kb").and_then(Value::as_u64);
    let memory = memory.map_or_else(String::new, |kib| format!("{} MiB", kib / 1_024));
    let attach = row.get("attach_ms").and_then(Value::as_f64);
    let attach = attach.map_or_else(String::new, |ms| format!("{:.1} s", ms / 1e3));
    // Kernels before 5.12 do not count them.
    let missed = match number(row, "recursion_misses") {
        unknown if unknown.is_empty() => "?".to_owned(),
        missed => missed,
    };
    let cost = row.get("getppid_ns");
    let cost = |of: &str| cost.and_then(|cost| cost.get(of)).and_then(Value::as_f64);
    let cost = match (cost("without"), cost("with")) {
        // Rounded, and without a negative zero.
        (Some(without), Some(with)) => format!("{:+.0} ns", (with - without).round() + 0.0),
        _ => String::new(),
    };
    format!(
        "| {}{boot} | {} | {}{faults} | {}, {time} | {} | {cost} | {missing} | {missed} | {attach} | {memory} | {result} | {} |\n",
        field(row, "kernel"),
        field(row, "architecture"),
        field(row, "profile"),
        number(row, "processors"),
        field(row, "connect_hook"),
        field(row, "tested"),
    )
}

fn field(row: &Value, name: &str) -> String {
    row.get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn number(row: &Value, name: &str) -> String {
    let number = row.get(name).and_then(Value::as_u64);
    number.map_or_else(String::new, |number| number.to_string())
}

const HEAD: &str = "\
# Kernels

The kernels on which statlink was judged, with the results. `cargo xtask test kernels` boots each of them in
an emulated machine, with Knative's own client and server, injects faults, and compares causes and counts
with Knative's own log. It also writes this page.

- *profile*: the agent's rights. Each fault is injected once. In a *campaign*, 60 faults are injected in a random
  order, half of them while packets come late, twice and out of order; in between, 5 % of all packets are lost.
- *connect()*: the hooks that see attempts that fail before a SYN, and name lookups. `fexit` costs nobody
  else anything; `tracepoints` make each system call of every process of the node about 40 ns slower.
- *other calls*: the time added to a system call other than connect(), in virtual time: one instruction is 2 ns.
- *missing*: hooks that the kernel refuses. `statlink check` says what is lost without each.
- *processors, time*: of the guest. In *virtual* time an instruction takes two nanoseconds and waiting takes
  nothing; in *real* time the guest is an emulator, many times slower than a processor.
- *missed*: events for which the kernel skipped a program because it was already running on that processor; `?`
  if the kernel does not count them.
- *attach*: how long it took to load and attach the kernel half, in the guest's time.
- *memory*: the agent's peak of resident memory, which is at its start. Values above 30 MiB are older than a change
  by which the agent keeps only those of the kernel's types that it attaches to.

| kernel | architecture | profile | processors, time | connect() | other calls | missing | missed | attach | memory | judgements | tested |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

const TAIL: &str = "
All kernels are Debian's: its cloud and generic configurations, and its PREEMPT_RT. Another kernel with the same
version and BTF has the same hooks; `statlink check` shows them on the node itself.

## Kernels that were not booted

When it starts, the agent reads the offsets of kernel fields from BTF. Other kernels describe these fields in other
forms. The kernels' own encoder (pahole) produced these forms, and a test compared the agent's offsets with the
compiler's:

| form | kernels | what the agent does |
|---|---|---|
| `sk_protocol` is a bit field | Linux up to 5.5; Red Hat 8, which is 4.18 with a newer BPF | ends with exit code 3 and one line that names the Linux version it needs |
| changed members are in unnamed unions, so that sizes stay | Red Hat 9 and its rebuilds | finds all |
| groups of members are marked by empty arrays, and values have 64 bits | Linux from 6.8 on: Ubuntu's HWE and Azure's kernels | finds all |
| without IPv6, without MPTCP | kernels built like this | finds all that exists |
| members in a random order | hardened kernels (`CONFIG_RANDSTRUCT`) | finds all |
| annotations of pointers (`__rcu`, `__user`) | kernels built by clang, such as Container-Optimized OS | finds all |
| kinds of types that this version does not know | future kernels | skips them if the kernel gives their length; otherwise it ends with one line that names the kind |
| no BTF | Amazon Linux 2's 4.14, custom kernels | ends with one line that names the build option |
";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_page_is_what_the_last_runs_found() {
        let workspace = Workspace::find().unwrap();
        let rows = fs::read_to_string(super::super::matrix::path(&workspace)).unwrap();
        let rows: BTreeMap<String, Value> = serde_json::from_str(&rows).unwrap();
        let page = fs::read_to_string(path(&workspace)).unwrap();
        assert!(
            page == text(&rows),
            "kernels.md is not what tests/kernels.json says: `cargo xtask test kernels` writes both"
        );
    }

    #[test]
    fn a_row_says_what_is_wrong() {
        let row = serde_json::json!({
            "kernel": "5.10.0-46-cloud-amd64", "architecture": "amd64", "boot": "",
            "profile": "restricted", "campaign": true, "processors": 2, "real_time": true,
            "connect_hook": "fexit", "hooks_missing": ["enumerate"], "recursion_misses": 0,
            "peak_memory_kb": 31_744, "getppid_ns": { "without": 250.0, "with": 249.9 }, "attach_ms": 840.2, "passed": 7, "failures": ["x"], "tested": "2026-11-28",
        });
        assert_eq!(
            line(&row),
            "| 5.10.0-46-cloud-amd64 | amd64 | restricted, campaign | 2, real | fexit | +0 ns | `enumerate` | 0 | 0.8 s \
             | 31 MiB | **1 wrong**, 7 right | 2026-11-28 |\n"
        );
    }
}
