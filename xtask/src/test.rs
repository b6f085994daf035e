//! `cargo xtask test`: the tests, in tiers that need more and more of the machine.

use std::{
    ffi::OsString,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    build, image, process,
    setup::{self, Need},
    stage,
    workspace::Workspace,
};

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which tiers to run; without one, all but `link`, which `pure` includes
    #[arg(value_enum)]
    tiers: Vec<Tier>,
    /// Passed on to the test programs, after `--`: a filter, `--nocapture` …
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// A set of tests with the same needs. Declared in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Tier {
    /// The state machines of the links alone: seconds, and needs nothing but cargo
    Link,
    /// Logic alone: no root, no kernel, no network; includes `link`
    Pure,
    /// What reads the input of others, on random input: a fixed number of inputs, seconds
    Fuzz,
    /// What is deployed: chart and Kustomize base (builds Helm the first time)
    Deploy,
    /// Real kernel, network namespaces and our own dialler (root)
    Kernel,
    /// Real Knative and a real Collector as peers (root; builds them the first time)
    Peers,
    /// A Kubernetes of one node, with Knative as it is deployed (root; builds it the first time)
    Cluster,
}

/// What a tier consists of.
struct Plan {
    name: &'static str,
    needs: &'static [Need],
    /// Whether it runs the release agent, as root.
    agent: bool,
    /// Whether it runs the agent's image.
    image: bool,
    /// How `testbed` prepares what the tier needs of the test bed; empty if it needs none.
    test_bed: &'static [&'static str],
    /// One `cargo test` each.
    runs: &'static [Run],
}

/// One `cargo test`: what of which package, which of its tests, and how many of them at a time
/// (none: as many as the machine has processors).
struct Run {
    select: &'static [&'static str],
    filter: &'static [&'static str],
    threads: Option<u8>,
}

impl Tier {
    /// What a pull request must pass. [`Tier::Link`] is part of [`Tier::Pure`].
    const ALL: &[Self] = &[
        Self::Pure,
        Self::Fuzz,
        Self::Deploy,
        Self::Kernel,
        Self::Peers,
        Self::Cluster,
    ];

    /// The table of tiers.
    const fn plan(self) -> Plan {
        match self {
            Self::Link => Plan {
                name: "link",
                needs: &[],
                agent: false,
                image: false,
                test_bed: &[],
                runs: &[Run {
                    select: &["--package=statlink-link"],
                    filter: &[],
                    threads: None,
                }],
            },
            Self::Pure => Plan {
                name: "pure",
                needs: setup::BUILD,
                agent: false,
                image: false,
                test_bed: &[],
                runs: &[
                    Run {
                        select: &[
                            "--package=statlink",
                            "--package=statlink-link",
                            "--package=xtask",
                        ],
                        filter: &["--skip=fuzz::"],
                        threads: None,
                    },
                    // Their binaries are built for other targets, or are no tests.
                    Run {
                        select: &[
                            "--package=statlink-ebpf",
                            "--package=statlink-tests",
                            "--lib",
                        ],
                        filter: &[],
                        threads: None,
                    },
                ],
            },
            Self::Fuzz => Plan {
                name: "fuzz",
                needs: setup::BUILD,
                agent: false,
                image: false,
                test_bed: &[],
                runs: &[Run {
                    select: &["--package=statlink", "--lib"],
                    filter: &["fuzz::"],
                    threads: None,
                }],
            },
            Self::Deploy => Plan {
                name: "deploy",
                needs: setup::DEPLOY,
                agent: false,
                image: false,
                test_bed: &[],
                runs: &[Run {
                    select: &["--package=statlink-tests", "--test=deploy"],
                    filter: &[],
                    threads: None,
                }],
            },
            // Tests of this tier share the kernel's hooks and measure what arrives from them.
            Self::Kernel => Plan {
                name: "kernel",
                needs: setup::PEERS,
                agent: true,
                image: false,
                test_bed: &["build"],
                runs: &[Run {
                    select: &[
                        "--package=statlink-tests",
                        "--test=kernel",
                        "--test=lifecycle",
                    ],
                    filter: &[],
                    threads: Some(1),
                }],
            },
            // These mostly wait, each in namespaces of its own.
            Self::Peers => Plan {
                name: "peers",
                needs: setup::PEERS,
                agent: true,
                image: false,
                test_bed: &["build"],
                runs: &[Run {
                    select: &[
                        "--package=statlink-tests",
                        "--test=test_bed",
                        "--test=peers",
                    ],
                    filter: &[],
                    threads: Some(2),
                }],
            },
            // A machine has one such node at a time.
            Self::Cluster => Plan {
                name: "cluster",
                needs: setup::CLUSTER,
                agent: true,
                image: true,
                test_bed: &["build", "cluster"],
                runs: &[Run {
                    select: &[
                        "--package=statlink-tests",
                        "--test=kubernetes_api",
                        "--test=cluster",
                    ],
                    filter: &[],
                    threads: Some(1),
                }],
            },
        }
    }
}

/// How a tier went.
struct Outcome {
    name: &'static str,
    took: Duration,
    counts: Counts,
    error: Option<anyhow::Error>,
}

/// What the test programs' closing lines add up to.
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
    // All that can be known beforehand is, before anything takes its time.
    for plan in plans.iter().filter(|plan| plan.agent) {
        setup::require_root(&format!("test {}", plan.name))?;
    }
    let needs: Vec<_> = plans.iter().flat_map(|plan| plan.needs).copied().collect();
    setup::ensure(&needs, workspace)?;

    // One failing tier does not hide what the others have to say.
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

/// The tiers asked for, each once, in their order; none that another one includes.
fn selected(tiers: &[Tier]) -> Vec<Tier> {
    let mut tiers = if tiers.is_empty() { Tier::ALL } else { tiers }.to_vec();
    tiers.sort_unstable();
    tiers.dedup();
    if tiers.contains(&Tier::Pure) {
        tiers.retain(|tier| *tier != Tier::Link);
    }
    tiers
}

impl Counts {
    /// Takes `test result: ok. 3 passed; 0 failed; 1 ignored; …`, and no other line.
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
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_tier_means_all_in_order() {
        assert_eq!(selected(&[]), Tier::ALL);
        assert_eq!(
            selected(&[Tier::Peers, Tier::Pure, Tier::Peers]),
            [Tier::Pure, Tier::Peers]
        );
    }

    #[test]
    fn a_tier_that_another_one_includes_does_not_run_twice() {
        assert_eq!(selected(&[Tier::Link]), [Tier::Link]);
        assert_eq!(selected(&[Tier::Pure, Tier::Link]), [Tier::Pure]);
        let packages = |tier: Tier| tier.plan().runs.iter().flat_map(|run| run.select);
        assert!(packages(Tier::Link).all(|package| packages(Tier::Pure).any(|of| of == package)));
    }

    #[test]
    fn what_touches_the_kernel_is_root_s_and_no_test_belongs_to_two_tiers() {
        let mut seen = BTreeSet::new();
        for tier in Tier::ALL {
            let plan = tier.plan();
            assert_eq!(
                plan.agent,
                !matches!(tier, Tier::Pure | Tier::Fuzz | Tier::Deploy)
            );
            assert!(setup::BUILD.iter().all(|need| plan.needs.contains(need)));
            for target in plan.runs.iter().flat_map(|run| run.select) {
                if target.starts_with("--test=") {
                    assert!(seen.insert(*target), "{target} is in two tiers");
                }
            }
        }
        assert_eq!(seen.len(), 7);
    }

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
