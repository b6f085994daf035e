//! `cargo xtask test`: the tests, in tiers that need more and more of the machine.

mod tiers;

use std::{
    ffi::OsString,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use tiers::{Plan, Run, Tier, selected};

use crate::{build, image, process, setup, stage, vm, workspace::Workspace};

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The tiers to run; by default all but `link`, which `pure` includes, and `kernels`
    #[arg(value_enum)]
    tiers: Vec<Tier>,
    /// Passed to the test programs, after `--`: a filter, `--nocapture` …
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// The result of a tier.
struct Outcome {
    name: &'static str,
    took: Duration,
    counts: Counts,
    error: Option<anyhow::Error>,
}

/// The sum of the test programs' closing lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u32,
    failed: u32,
    ignored: u32,
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    let plans: Vec<_> = selected(&options.tiers)
        .into_iter()
        .map(Tier::plan)
        .collect();
    // Refuse first, before anything takes time.
    for plan in plans.iter().filter(|plan| plan.agent) {
        setup::require_root(&format!("test {}", plan.name))?;
    }
    let needs: Vec<_> = plans.iter().flat_map(|plan| plan.needs).copied().collect();
    setup::ensure(&needs, workspace)?;

    // A failed tier does not stop the others.
    let outcomes: Vec<_> = plans
        .iter()
        .map(|plan| {
            let start = Instant::now();
            let mut counts = Counts::default();
            let error = run_tier(plan, options, workspace, &mut counts).err();
            if let Some(error) = &error {
                eprintln!("error: tier {}: {error:#}", plan.name);
            }
            Outcome {
                name: plan.name,
                took: start.elapsed(),
                counts,
                error,
            }
        })
        .collect();

    println!("\n{}", summary(&outcomes));
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.error.is_some())
        .map(|outcome| outcome.name)
        .collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn run_tier(
    plan: &Plan,
    options: &Options,
    workspace: &Workspace,
    counts: &mut Counts,
) -> Result<()> {
    if plan.guests {
        (counts.passed, counts.failed) = vm::matrix::run(&options.arguments, workspace)?;
        ensure!(counts.failed == 0, "{} judgements are bad", counts.failed);
        return Ok(());
    }
    let agent = if plan.agent {
        Some(build::agent(true, workspace)?)
    } else {
        None
    };
    let image = if plan.image {
        Some(image::for_tests(workspace)?)
    } else {
        None
    };
    if !plan.test_bed.is_empty() {
        stage::test_bed(&[], plan.test_bed, workspace)?;
    }
    let mut failure = None;
    for run in plan.runs {
        process::run(
            &format!("compile the {} tests", plan.name),
            cargo_test(run, workspace).arg("--no-run"),
        )?;
        let mut command = cargo_test(run, workspace);
        command.args(["--no-fail-fast", "--"]);
        command.args(
            run.threads
                .map(|threads| format!("--test-threads={threads}")),
        );
        command.args(run.filter).args(&options.arguments);
        if let Some(agent) = &agent {
            command.env("STATLINK_BIN", Path::new(agent));
        }
        if let Some(image) = &image {
            command.env("STATLINK_IMAGE", image);
        }
        let what = format!("run the {} tests", plan.name);
        let result = process::run_observed(&what, &mut command, |line| counts.add(line));
        failure = failure.or(result.err());
    }
    match failure {
        Some(error) => Err(error),
        None if *counts == Counts::default() => bail!("no test ran"),
        None => Ok(()),
    }
}

fn cargo_test(run: &Run, workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo(&["test", "--locked"]);
    cargo.args(run.select);
    cargo
}

impl Counts {
    /// Adds a line `test result: ok. 3 passed; 0 failed; 1 ignored; …`; ignores other lines.
    fn add(&mut self, line: &str) {
        let Some((_, numbers)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in numbers.split("; ") {
            match part.split_once(' ') {
                Some((n, "passed")) => self.passed += n.parse().unwrap_or(0),
                Some((n, "failed")) => self.failed += n.parse().unwrap_or(0),
                Some((n, "ignored")) => self.ignored += n.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

fn summary(outcomes: &[Outcome]) -> String {
    let mut lines = vec![format!(
        "{:8}{:8}{:>8}{:>8}{:>9}{:>10}",
        "tier", "result", "passed", "failed", "ignored", "time"
    )];
    lines.extend(outcomes.iter().map(|outcome| {
        let Counts {
            passed,
            failed,
            ignored,
        } = outcome.counts;
        let result = if outcome.error.is_some() {
            "FAILED"
        } else {
            "ok"
        };
        format!(
            "{:8}{result:8}{passed:>8}{failed:>8}{ignored:>9}{:>10}",
            outcome.name,
            process::seconds(outcome.took)
        )
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut counts = Counts::default();
        for line in [
            "test link::tests::opens ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            counts.add(line);
        }
        assert_eq!(
            counts,
            Counts {
                passed: 5,
                failed: 1,
                ignored: 1
            }
        );
    }

    #[test]
    fn the_summary_has_a_line_per_tier() {
        let outcome = |name, error| Outcome {
            name,
            took: Duration::from_millis(1500),
            counts: Counts {
                passed: 2,
                failed: 0,
                ignored: 0,
            },
            error,
        };
        assert_eq!(
            summary(&[
                outcome("pure", None),
                outcome("kernel", Some(anyhow::anyhow!("no")))
            ]),
            "tier    result    passed  failed  ignored      time\n\
             pure    ok             2       0        0     1.5 s\n\
             kernel  FAILED         2       0        0     1.5 s"
        );
    }
}
