//! Which capability each feature needs, and whether the process has it.

use rustix::thread::{CapabilitySet, capabilities};

use super::{Finding, Verdict};

struct Need {
    name: &'static str,
    /// Any one of them.
    any: CapabilitySet,
    purpose: &'static str,
    without: Verdict,
    /// The same where the Kubernetes API names activators.
    with_api: Verdict,
}

/// The hooks were tried for real; that they fail without the first two says so there. Here it is
/// said which capability that is.
const NEEDS: [Need; 5] = [
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
        // Whether it is, and what is lost without, is told of tracefs itself.
        without: Verdict::Ok,
        with_api: Verdict::Ok,
    },
];

/// `api`: whether the Kubernetes API is asked.
pub(super) fn check(api: bool) -> Vec<Finding> {
    let held = match capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => {
            let finding = Finding::new("capabilities", "do anything at all", error.to_string());
            return vec![finding.but(Verdict::Warning, "none is known: look at the hooks above")];
        }
    };
    NEEDS.iter().map(|need| judge(need, held, api)).collect()
}

fn judge(need: &Need, held: CapabilitySet, api: bool) -> Finding {
    let finding = |detail| Finding::new(need.name, need.purpose, detail);
    let verdict = if api { need.with_api } else { need.without };
    if held.intersects(need.any) {
        finding("held")
    } else if verdict == Verdict::Ok {
        finding("not held, and not needed")
    } else {
        let cure = format!(
            "run as root, or add {} to the container's capabilities",
            need.name
        );
        finding("not held").but(verdict, cure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_judged_by_what_is_lost_without() {
        use Verdict::{Failed, Ok, Unsupported, Warning};
        let verdicts = |held, api| NEEDS.map(|need| judge(&need, held, api).verdict);
        assert_eq!(verdicts(CapabilitySet::all(), false), [Ok; 5]);
        let two = CapabilitySet::BPF | CapabilitySet::PERFMON;
        assert_eq!(verdicts(two, false), [Ok, Ok, Failed, Warning, Ok]);
        assert_eq!(verdicts(two, true), [Ok; 5]);
        assert_eq!(
            verdicts(CapabilitySet::SYS_ADMIN, false),
            [Ok, Ok, Failed, Warning, Ok]
        );
        assert_eq!(
            verdicts(CapabilitySet::empty(), true),
            [Unsupported, Unsupported, Ok, Ok, Ok]
        );
    }

    #[test]
    fn a_missing_one_is_named_with_its_cure() {
        for need in &NEEDS {
            let finding = judge(need, CapabilitySet::empty(), false);
            if finding.verdict != Verdict::Ok {
                assert!(finding.cure.unwrap().contains(need.name));
            }
        }
    }
}
