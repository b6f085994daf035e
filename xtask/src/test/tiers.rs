//! The table of tiers: the tests of each, and their needs.

use crate::setup::{self, Need};

/// A set of tests with the same needs. Declared in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Tier {
    /// Only the state machines of the links: seconds, and needs only cargo
    Link,
    /// Only logic: no root, no kernel, no network; includes `link`
    Pure,
    /// Readers of untrusted input, on random input: a fixed number of inputs, seconds
    Fuzz,
    /// Everything that is deployed: chart, Kustomize base, Collector configurations, rules,
    /// runbooks, dashboards, registry (builds their tools the first time)
    Deploy,
    /// This kernel, network namespaces and a client of our own (root)
    Kernel,
    /// Real Knative and a real Collector as peers (root; builds them the first time)
    Peers,
    /// A Kubernetes of one node with the real Knative (root; builds it the first time)
    Cluster,
    /// Other kernels in emulated guests, named after `--`: an hour for all. Runs only by name
    Kernels,
}

/// The parts of a tier.
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) needs: &'static [Need],
    /// Whether it runs the release agent, as root.
    pub(super) agent: bool,
    /// Whether it runs the agent's image.
    pub(super) image: bool,
    /// The arguments with which `testbed` prepares the tier; empty if it needs none.
    pub(super) test_bed: &'static [&'static str],
    /// Whether it judges the agent in guests instead of running tests.
    pub(super) guests: bool,
    /// One `cargo test` each.
    pub(super) runs: &'static [Run],
}

/// One `cargo test`: the package and target, the tests, and how many run at a time (`None`: as many
/// as the machine has CPUs).
pub(super) struct Run {
    pub(super) select: &'static [&'static str],
    pub(super) filter: &'static [&'static str],
    pub(super) threads: Option<u8>,
}

impl Plan {
    /// Needs nothing, and runs nothing.
    const LEAST: Self = Self {
        name: "",
        needs: &[],
        agent: false,
        image: false,
        test_bed: &[],
        guests: false,
        runs: &[],
    };
}

impl Run {
    /// All selected tests, as many at a time as the machine has CPUs.
    const OF_ALL: Self = Self {
        select: &[],
        filter: &[],
        threads: None,
    };
}

impl Tier {
    /// The tiers that a pull request must pass. [`Tier::Link`] is part of [`Tier::Pure`].
    pub(super) const ALL: &[Self] = &[
        Self::Pure,
        Self::Fuzz,
        Self::Deploy,
        Self::Kernel,
        Self::Peers,
        Self::Cluster,
    ];

    /// The table of tiers.
    pub(super) const fn plan(self) -> Plan {
        match self {
            Self::Link => Plan {
                name: "link",
                runs: &[Run {
                    select: &["--package=statlink-link"],
                    ..Run::OF_ALL
                }],
                ..Plan::LEAST
            },
            Self::Pure => Plan {
                name: "pure",
                needs: setup::BUILD,
                runs: &[
                    Run {
                        select: &[
                            "--package=statlink",
                            "--package=statlink-link",
                            "--package=xtask",
                        ],
                        filter: &["--skip=fuzz::"],
                        ..Run::OF_ALL
                    },
                    // Their binaries are for another target, or are no tests.
                    Run {
                        select: &[
                            "--package=statlink-ebpf",
                            "--package=statlink-tests",
                            "--lib",
                        ],
                        ..Run::OF_ALL
                    },
                    // The evaluation of their measurements is tested without a test bed.
                    Run {
                        select: &["--package=statlink-tests", "--bin=bench", "--bin=campaign"],
                        ..Run::OF_ALL
                    },
                ],
                ..Plan::LEAST
            },
            Self::Fuzz => Plan {
                name: "fuzz",
                needs: setup::BUILD,
                runs: &[Run {
                    select: &["--package=statlink", "--lib"],
                    filter: &["fuzz::"],
                    ..Run::OF_ALL
                }],
                ..Plan::LEAST
            },
            Self::Deploy => Plan {
                name: "deploy",
                needs: setup::DEPLOY,
                runs: &[Run {
                    select: &["--package=statlink-tests", "--test=deploy"],
                    ..Run::OF_ALL
                }],
                ..Plan::LEAST
            },
            // These tests share the kernel's hooks, and count the records.
            Self::Kernel => Plan {
                name: "kernel",
                needs: setup::PEERS,
                agent: true,
                test_bed: &["build"],
                runs: &[Run {
                    select: &[
                        "--package=statlink-tests",
                        "--test=kernel",
                        "--test=lifecycle",
                    ],
                    threads: Some(1),
                    ..Run::OF_ALL
                }],
                ..Plan::LEAST
            },
            // These tests mostly wait, each in its own namespaces, but each starts a Collector: a
            // machine with two CPUs can run two at a time.
            Self::Peers => Plan {
                name: "peers",
                needs: setup::PEERS,
                agent: true,
                test_bed: &["build"],
                runs: &[Run {
                    select: &[
                        "--package=statlink-tests",
                        "--test=test_bed",
                        "--test=peers",
                    ],
                    threads: Some(2),
                    ..Run::OF_ALL
                }],
                ..Plan::LEAST
            },
            // A machine runs one such node at a time.
            Self::Cluster => Plan {
                name: "cluster",
                needs: setup::CLUSTER,
                agent: true,
                image: true,
                test_bed: &["build", "cluster"],
                guests: false,
                runs: &[Run {
                    select: &[
                        "--package=statlink-tests",
                        "--test=kubernetes_api",
                        "--test=cluster",
                    ],
                    threads: Some(1),
                    ..Run::OF_ALL
                }],
            },
            Self::Kernels => Plan {
                name: "kernels",
                needs: setup::GUESTS,
                guests: true,
                ..Plan::LEAST
            },
        }
    }
}

/// The requested tiers, each once, in their order; without those that another one includes.
pub(super) fn selected(tiers: &[Tier]) -> Vec<Tier> {
    let mut tiers = if tiers.is_empty() { Tier::ALL } else { tiers }.to_vec();
    tiers.sort_unstable();
    tiers.dedup();
    if tiers.contains(&Tier::Pure) {
        tiers.retain(|tier| *tier != Tier::Link);
    }
    tiers
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
    fn tiers_on_the_kernel_need_root_and_no_test_belongs_to_two_tiers() {
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
}
