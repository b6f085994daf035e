//! `cargo xtask test kernels`: judges the agent on every kernel of the table, and stores the
//! results.
//!
//! The results of the last runs are committed (`tests/kernels.json`), and the page for operators is
//! generated from them: a run of one kernel changes only that kernel's rows.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    Machines,
    kernels::{KERNELS, Kernel},
    qemu::Boot,
    script,
};
use crate::{process, vm::page, workspace::Workspace};

/// One way to judge a kernel.
struct Way {
    name: &'static str,
    profile: &'static str,
    processors: u8,
    real_time: bool,
    /// The cases; empty: all.
    only: &'static str,
}

/// The ways in which each kernel is judged.
const WAYS: &[Way] = &[
    Way {
        name: "privileged",
        profile: "privileged",
        processors: 1,
        real_time: false,
        only: "",
    },
    // The profile changes how activators are named and what the kernel lets the agent do: these are
    // the cases that either affects.
    Way {
        name: "restricted",
        profile: "restricted",
        processors: 1,
        real_time: false,
        only: FEW,
    },
    // If events are ever missed, then in real time and on several CPUs. Nothing is skipped there,
    // so these are the cases that need the least waiting; a machine with much other work starves
    // the guest, and the judgements are then about that.
    Way {
        name: "real-time",
        profile: "restricted",
        processors: 2,
        real_time: true,
        only: FEW,
    },
];

/// Only by name: the hooks of a kernel, and the agent's cost in it.
const FACTS: &Way = &Way {
    name: "facts",
    profile: "privileged",
    processors: 1,
    real_time: false,
    only: "",
};

/// Only by name: 60 faults in a random order and weather.
const CAMPAIGN: &Way = &Way {
    name: "campaign",
    profile: "privileged",
    processors: 1,
    real_time: false,
    only: "",
};

/// The result of one guest.
#[derive(Default)]
struct Judged {
    facts: BTreeMap<String, Value>,
    passed: u32,
    failures: Vec<String>,
    /// The case that was judged last.
    case: String,
    complete: bool,
}

/// Judges the named kernels, or all; returns how many judgements were good and how many were not.
pub(crate) fn run(names: &[OsString], workspace: &Workspace) -> Result<(u32, u32)> {
    if names.iter().any(|name| name == PAGE) {
        Results::change(workspace, |_| Ok(()))?;
        return Ok((0, 0));
    }
    let cells = chosen(names)?;
    let mut machines = Machines::new(false, None, workspace)?;
    let (mut passed, mut failed) = (0, 0);
    let total = cells.len();
    for (number, (kernel, way)) in cells.into_iter().enumerate() {
        eprintln!("── {}/{total}: {} {}", number + 1, kernel.name, way.name);
        let judged = judge(kernel, way, &mut machines, workspace);
        let judged = judged.unwrap_or_else(|error| Judged {
            failures: vec![format!("{error:#}")],
            ..Judged::default()
        });
        println!("{}", row(kernel, way, &judged));
        for failure in &judged.failures {
            println!("    {failure}");
        }
        passed += judged.passed;
        failed += u32::try_from(judged.failures.len()).unwrap_or(u32::MAX);
        Results::change(workspace, |results| {
            if way.name == FACTS.name {
                results.note(kernel, &judged);
                Ok(())
            } else {
                results.put(kernel, way, &judged)
            }
        })?;
    }
    Ok((passed, failed))
}

/// The cells for these names: all without a name; those of a kernel, or one of them
/// (`5.10/restricted`).
fn chosen(names: &[OsString]) -> Result<Vec<(&'static Kernel, &'static Way)>> {
    let each = |kernel| WAYS.iter().map(move |way| (kernel, way));
    if names.is_empty() {
        return Ok(KERNELS.iter().flat_map(each).collect());
    }
    if names.iter().any(|name| name == SMALLEST) {
        let smallest = KERNELS.iter().filter(|kernel| kernel.smallest);
        return Ok(smallest.flat_map(each).collect());
    }
    let mut cells = Vec::new();
    for name in names {
        let text = name.to_string_lossy();
        let (kernel, only) = match text.split_once('/') {
            Some((kernel, way)) => (kernel, Some(way)),
            None => (text.as_ref(), None),
        };
        let kernel =
            Kernel::named(kernel).with_context(|| format!("no kernel is called {kernel}"))?;
        let before = cells.len();
        cells.extend(each(kernel).filter(|(_, way)| only.is_none_or(|only| only == way.name)));
        let aside = [FACTS, CAMPAIGN].into_iter();
        cells.extend(
            aside
                .filter(|way| only == Some(way.name))
                .map(|way| (kernel, way)),
        );
        ensure!(cells.len() > before, "no kernel is judged as {text}");
    }
    Ok(cells)
}

fn judge(
    kernel: &Kernel,
    way: &Way,
    machines: &mut Machines<'_>,
    workspace: &Workspace,
) -> Result<Judged> {
    let guest = machines.guest(kernel)?;
    let runs = workspace.target.join("vm/runs");
    let directory = runs.join(format!("{}-{}", kernel.name, way.name));
    let boot = Boot {
        arch: kernel.arch,
        image: &guest.kernel.image,
        line: kernel.boot,
        processors: way.processors,
        real_time: way.real_time,
        directory: &directory,
    };
    let mut command = ["guest", "--profile", way.profile, "--only", way.only]
        .map(str::to_owned)
        .to_vec();
    if way.name == FACTS.name {
        command.push("--facts".to_owned());
    } else if way.name == CAMPAIGN.name {
        command.push(format!("--campaign={SEED}"));
    }
    let archive = guest
        .programs
        .archive(&guest.kernel.modules, &script(&command))?;
    let mut judged = Judged {
        facts: BTreeMap::from([("kernel".to_owned(), json!(guest.kernel.release))]),
        ..Judged::default()
    };
    let begin = Instant::now();
    boot.run(&archive, LONGEST, |line| {
        if let Some(case) = judged.take(line) {
            eprintln!("   … {case}: {:.0} s", begin.elapsed().as_secs_f64());
        }
    })?;
    if !judged.complete {
        judged.failures.push(format!(
            "the guest ended too early: {}",
            boot.serial_log().display()
        ));
    }
    Ok(judged)
}

impl Judged {
    /// Reads a line of the judge; ignores other lines. Returns a case if this is its first
    /// judgement.
    fn take(&mut self, line: &str) -> Option<&str> {
        let (what, content) = line.strip_prefix('@')?.split_once(' ')?;
        let content = serde_json::from_str::<Value>(content).ok()?;
        let text = |key: &str| content.get(key).and_then(Value::as_str).unwrap_or_default();
        match what {
            "fact" => {
                let value = content.get("value").cloned().unwrap_or(Value::Null);
                self.facts.insert(text("name").to_owned(), value);
            }
            "judged" if content.get("ok") == Some(&Value::Bool(true)) => self.passed += 1,
            "judged" => self.failures.push(format!(
                "{}, {}: {}",
                text("case"),
                text("what"),
                text("detail")
            )),
            "end" => self.complete = true,
            _ => {}
        }
        if what != "judged" || text("case") == self.case {
            return None;
        }
        self.case = text("case").to_owned();
        Some(&self.case)
    }

    fn fact(&self, name: &str) -> String {
        self.facts
            .get(name)
            .map_or_else(String::new, ToString::to_string)
    }
}

fn row(kernel: &Kernel, way: &Way, judged: &Judged) -> String {
    format!(
        "{:<14} {:<11} {:>3} good {:>3} bad   missed {:>3}   peak {:>6} kB   attached in {:.5} ms",
        kernel.name,
        way.name,
        judged.passed,
        judged.failures.len(),
        judged.fact("recursion_misses"),
        judged.fact("peak_memory_kb"),
        judged.fact("attach_ms"),
    )
}

/// The results of each kernel's last run.
struct Results {
    rows: BTreeMap<String, Value>,
    /// By release: the arguments of its hooks.
    prototypes: BTreeMap<String, Value>,
}

impl Results {
    /// Changes what is kept, and writes the page anew. It is read only now: another run may have added
    /// rows while this one's guest was judged.
    fn change(workspace: &Workspace, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let _alone = workspace.alone("kernels")?;
        let mut results = Self::read(workspace)?;
        change(&mut results)?;
        results.write(workspace)
    }

    fn read(workspace: &Workspace) -> Result<Self> {
        Ok(Self {
            rows: read(&path(workspace))?,
            prototypes: read(&prototypes(workspace))?,
        })
    }

    fn put(&mut self, kernel: &Kernel, way: &Way, judged: &Judged) -> Result<()> {
        let mut date = Command::new("date");
        let tested = process::capture(date.args(["--utc", "+%Y-%m-%d"]))?;
        let row = json!({
            "kernel": judged.facts.get("kernel"),
            "architecture": kernel.arch.debian(),
            "boot": kernel.boot,
            "profile": way.profile,
            "campaign": way.name == CAMPAIGN.name,
            "processors": way.processors,
            "real_time": way.real_time,
            "connect_hook": judged.facts.get("connect_hook"),
            "hooks_missing": judged.facts.get("hooks_missing"),
            "recursion_misses": judged.facts.get("recursion_misses"),
            "peak_memory_kb": judged.facts.get("peak_memory_kb"),
            "attach_ms": judged.facts.get("attach_ms"),
            "passed": judged.passed,
            "failures": judged.failures,
            "tested": tested.trim(),
            COST: self.rows.get(&key(kernel, way)).and_then(|row| row.get(COST)),
        });
        self.rows.insert(key(kernel, way), row);
        Ok(())
    }

    /// Adds the result of [`FACTS`] to the kernel's first row.
    fn note(&mut self, kernel: &Kernel, judged: &Judged) {
        let first = WAYS.first().map(|way| key(kernel, way));
        let row = first.and_then(|key| self.rows.get_mut(&key));
        if let (Some(row), Some(cost)) = (
            row.and_then(Value::as_object_mut),
            judged.facts.get("getppid_ns"),
        ) {
            row.insert(COST.to_owned(), cost.clone());
        }
        if let (Some(release), Some(found)) = (
            judged.facts.get("kernel").and_then(Value::as_str),
            judged.facts.get("prototypes"),
        ) {
            self.prototypes.insert(release.to_owned(), found.clone());
        }
    }

    fn write(&self, workspace: &Workspace) -> Result<()> {
        write(&path(workspace), &self.rows)?;
        write(&prototypes(workspace), &self.prototypes)?;
        let page = page::path(workspace);
        fs::write(&page, page::text(&self.rows))
            .with_context(|| format!("write {}", page.display()))
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Value>> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("read {}", path.display())),
        Err(_) => Ok(BTreeMap::new()),
    }
}

fn write(path: &Path, content: &BTreeMap<String, Value>) -> Result<()> {
    let text = serde_json::to_string_pretty(content).context("write the results")?;
    fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
}

fn key(kernel: &Kernel, way: &Way) -> String {
    format!("{} {}", kernel.name, way.name)
}

pub(super) fn path(workspace: &Workspace) -> PathBuf {
    workspace.root.join("tests/kernels.json")
}

/// A loss, a failure before any SYN, both ends of a restart.
const FEW: &str = "reset,prohibited route,restart,killed agent";

fn prototypes(workspace: &Workspace) -> PathBuf {
    workspace.root.join("tests/prototypes.json")
}

/// The campaign's seed: a failure can be repeated.
const SEED: u64 = 7;

/// In a row: nanoseconds of a system call, without the agent and with it.
const COST: &str = "getppid_ns";

/// Instead of names: the smallest set, which `.github/workflows/kernels.yml` runs for a change.
const SMALLEST: &str = "smallest";

/// Instead of names: generates the page again from the last results.
const PAGE: &str = "page";

/// The longest good run, on a very busy machine, took a third of this.
const LONGEST: Duration = Duration::from_secs(1_200);

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_the_judge_says_is_taken_and_nothing_else() {
        let mut judged = Judged::default();
        for line in [
            "hello",
            "@fact {\"name\":\"recursion_misses\",\"value\":0}",
            "@judged {\"case\":\"reset\",\"what\":\"v4\",\"ok\":true,\"detail\":\"\"}",
            "@judged {\"case\":\"reset\",\"what\":\"v6\",\"ok\":false,\"detail\":\"why\"}",
            "@judged cut",
            "@end {\"passed\":1,\"failed\":1}",
        ] {
            judged.take(line);
        }
        assert_eq!(judged.case, "reset");
        assert_eq!(judged.fact("recursion_misses"), "0");
        assert_eq!((judged.passed, judged.complete), (1, true));
        assert_eq!(judged.failures, ["reset, v6: why"]);
    }

    #[test]
    fn runs_at_the_same_time_keep_each_others_rows() {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace {
            root: directory.path().to_owned(),
            target: directory.path().join("target"),
        };
        for of in [path(&workspace), page::path(&workspace)] {
            fs::create_dir_all(of.parent().unwrap()).unwrap();
        }
        let cells = chosen(&[]).unwrap();
        thread::scope(|scope| {
            for run in cells.chunks(cells.len() / 4) {
                let workspace = &workspace;
                scope.spawn(move || {
                    for (kernel, way) in run {
                        let put =
                            |results: &mut Results| results.put(kernel, way, &Judged::default());
                        Results::change(workspace, put).unwrap();
                    }
                });
            }
        });
        assert_eq!(read(&path(&workspace)).unwrap().len(), cells.len());
    }

    #[test]
    fn kernels_are_chosen_by_name() {
        let count = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(OsString::from).collect();
            chosen(&names).ok().map(|cells| cells.len())
        };
        assert_eq!(count(&[]), Some(KERNELS.len() * WAYS.len()));
        assert_eq!(count(&["smallest"]), Some(3 * WAYS.len()));
        assert_eq!(count(&["5.10", "7.3/restricted"]), Some(WAYS.len() + 1));
        assert_eq!(count(&["7.3/facts"]), Some(1));
        assert_eq!(count(&["4.4"]), None);
        assert_eq!(count(&["5.10/root"]), None);
    }
}
