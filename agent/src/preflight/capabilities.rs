//! The capabilities that each feature needs, and whether the process has them.

use rustix::thread::{CapabilitySet, capabilities};

use super::finding::{Finding, Verdict};

struct Need {
    name: &'static str,
    /// Any one of these is enough.
    any: CapabilitySet,
    purpose: &'static str,
    /// The verdict if it is missing and there is no Kubernetes API.
    without: Verdict,
    /// The verdict if it is missing and the Kubernetes API names activators.
    with_api: Verdict,
}

/// The check also tries to load the hooks, which shows a missing CAP_BPF; this finding names the
/// capability.
///
/// CAP_SYS_ADMIN stands in for the first two on every kernel (`bpf_capable()` and
/// `perfmon_capable()`, `include/linux/capability.h`).
const NEEDS: [Need; 6] = [
    Need {
        name: "CAP_BPF",
        any: CapabilitySet::BPF.union(CapabilitySet::SYS_ADMIN),
        purpose: "create maps, load programs",
        without: Verdict::Unsupported,
        with_api: Verdict::Unsupported,
    },
    Need {
        name: "CAP_PERFMON",
        any: CapabilitySet::PERFMON.union(CapabilitySet::SYS_ADMIN),
        purpose: "attach to tracepoints, read kernel memory",
        without: Verdict::Unsupported,
        with_api: Verdict::Unsupported,
    },
    Need {
        name: "CAP_SYS_PTRACE",
        any: CapabilitySet::SYS_PTRACE,
        purpose: "name activators by their environment, without the Kubernetes API",
        without: Verdict::Failed,
        with_api: Verdict::Ok,
    },
    Need {
        name: "CAP_DAC_READ_SEARCH",
        any: CapabilitySet::DAC_READ_SEARCH.union(CapabilitySet::DAC_OVERRIDE),
        purpose: "read the environment of activators that run as another user",
        without: Verdict::Warning,
        with_api: Verdict::Ok,
    },
    Need {
        name: "CAP_SYS_ADMIN",
        any: CapabilitySet::SYS_ADMIN,
        purpose: "mount tracefs, where it is not visible",
        // The finding about tracefs says whether it is visible, and what is missing if not.
        without: Verdict::Ok,
        with_api: Verdict::Ok,
    },
    Need {
        name: "CAP_SYS_RESOURCE",
        any: CapabilitySet::SYS_RESOURCE,
        purpose: "raise the limit of locked memory, before Linux 5.11",
        // If the limit is too low, creating the maps fails with a message that says so.
        without: Verdict::Ok,
        with_api: Verdict::Ok,
    },
];

/// `kubernetes` says whether the Kubernetes API is used.
pub(super) fn check(kubernetes: bool) -> Vec<Finding> {
    let held = match capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => {
            let finding = Finding::new("capabilities", "run at all", error.to_string());
            return vec![finding.with_verdict(
                Verdict::Warning,
                "cannot be read: see whether the hooks above attach",
            )];
        }
    };
    NEEDS
        .iter()
        .map(|need| judge(need, held, kubernetes))
        .collect()
}

fn judge(need: &Need, held: CapabilitySet, kubernetes: bool) -> Finding {
    let finding = |detail| Finding::new(need.name, need.purpose, detail);
    let verdict = if kubernetes {
        need.with_api
    } else {
        need.without
    };
    if held.intersects(need.any) {
        finding(format!("held, to {}", need.purpose))
    } else if verdict == Verdict::Ok {
        finding(format!(
            "not held, and not needed here: to {}",
            need.purpose
        ))
    } else {
        let cure = format!(
            "run as root, or add {} to the container's capabilities",
            need.name
        );
        finding("not held".to_owned()).with_verdict(verdict, cure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_judged_by_what_fails_without_it() {
        use Verdict::{Failed, Ok, Unsupported, Warning};
        let verdicts = |held, kubernetes| NEEDS.map(|need| judge(&need, held, kubernetes).verdict);
        assert_eq!(verdicts(CapabilitySet::all(), false), [Ok; 6]);
        let two = CapabilitySet::BPF | CapabilitySet::PERFMON;
        assert_eq!(verdicts(two, false), [Ok, Ok, Failed, Warning, Ok, Ok]);
        assert_eq!(verdicts(two, true), [Ok; 6]);
        assert_eq!(
            verdicts(CapabilitySet::SYS_ADMIN, false),
            [Ok, Ok, Failed, Warning, Ok, Ok]
        );
        assert_eq!(
            verdicts(CapabilitySet::empty(), true),
            [Unsupported, Unsupported, Ok, Ok, Ok, Ok]
        );
    }

    #[test]
    fn each_says_what_it_is_for_held_or_not() {
        for need in &NEEDS {
            for held in [CapabilitySet::all(), CapabilitySet::empty()] {
                let finding = judge(need, held, true);
                let says =
                    [&finding.detail, &finding.purpose].map(|text| text.contains(need.purpose));
                assert!(says.contains(&true), "{finding:?}");
                assert!(finding.cure.is_some() || says == [true; 2], "{finding:?}");
            }
        }
    }

    #[test]
    fn the_cure_names_the_missing_capability() {
        for need in &NEEDS {
            let finding = judge(need, CapabilitySet::empty(), false);
            if finding.verdict != Verdict::Ok {
                assert!(finding.cure.unwrap().contains(need.name));
            }
        }
    }
}
