//! Which capability each feature needs, and whether the process has it.

use rustix::thread::{CapabilitySet, capabilities};

use super::{Finding, Verdict};

struct Need {
    name: &'static str,
    /// Any one of them.
    any: CapabilitySet,
    purpose: &'static str,
    without: Verdict,
}

/// The hooks were tried for real; that they fail without the first two says so there. Here it is
/// said which capability that is.
const NEEDS: [Need; 3] = [
    Need {
        name: "CAP_BPF",
        any: CapabilitySet::BPF.union(CapabilitySet::SYS_ADMIN),
        purpose: "create maps, load programs",
        without: Verdict::Unsupported,
    },
    Need {
        name: "CAP_PERFMON",
        any: CapabilitySet::PERFMON.union(CapabilitySet::SYS_ADMIN),
        purpose: "attach to tracepoints, read kernel memory",
        without: Verdict::Unsupported,
    },
    Need {
        name: "CAP_SYS_PTRACE",
        any: CapabilitySet::SYS_PTRACE,
        purpose: "read the environment and network namespace of activators",
        without: Verdict::Failed,
    },
];

pub(super) fn check() -> Vec<Finding> {
    let held = match capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => {
            let finding = Finding::new("capabilities", "do anything at all", error.to_string());
            return vec![finding.but(Verdict::Warning, "none is known: look at the hooks above")];
        }
    };
    NEEDS.iter().map(|need| judge(need, held)).collect()
}

fn judge(need: &Need, held: CapabilitySet) -> Finding {
    let finding = |detail| Finding::new(need.name, need.purpose, detail);
    if held.intersects(need.any) {
        finding("held")
    } else {
        let cure = format!(
            "run as root, or add {} to the container's capabilities",
            need.name
        );
        finding("not held").but(need.without, cure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_judged_by_what_is_lost_without() {
        let verdicts = |held| NEEDS.map(|need| judge(&need, held).verdict);
        assert_eq!(verdicts(CapabilitySet::all()), [Verdict::Ok; 3]);
        assert_eq!(
            verdicts(CapabilitySet::BPF | CapabilitySet::PERFMON),
            [Verdict::Ok, Verdict::Ok, Verdict::Failed]
        );
        assert_eq!(
            verdicts(CapabilitySet::SYS_ADMIN),
            [Verdict::Ok, Verdict::Ok, Verdict::Failed]
        );
        assert_eq!(
            verdicts(CapabilitySet::empty()),
            [Verdict::Unsupported, Verdict::Unsupported, Verdict::Failed]
        );
    }

    #[test]
    fn a_missing_one_is_named_with_its_cure() {
        for need in &NEEDS {
            let finding = judge(need, CapabilitySet::empty());
            assert!(finding.cure.unwrap().contains(need.name));
        }
    }
}
