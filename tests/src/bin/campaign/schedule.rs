//! The schedule. Every choice follows from the seed, none from the run.

use std::time::Duration;

use fastrand::Rng;

use crate::catalogue::{Kind, Resource, Way};

/// One lane's next step.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// How long nothing happens before it.
    pub(crate) rest: Duration,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Faults, overlapping if there are several.
    Faults(Vec<Planned>),
    /// The activator's pod is replaced. The new one may meet faults from its start.
    Birth { end: End, faults: Vec<Planned> },
}

/// How an activator's pod ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its process is killed without an announcement.
    Killed,
    /// It is deleted: it has a `deletionTimestamp` before SIGTERM comes.
    Deleted,
    /// The kubelet ends it, as when a node shuts down: it has a condition, and no
    /// `deletionTimestamp`.
    ByKubelet,
}

/// One fault of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) kind: Kind,
    /// The time after the step's beginning.
    pub(crate) after: Duration,
    pub(crate) length: Duration,
}

/// The steps of one lane.
#[derive(Debug)]
pub(crate) struct Schedule {
    rng: Rng,
    way: Way,
    kinds: Vec<Kind>,
    /// The longest fault, seconds.
    longest: f64,
}

impl Schedule {
    pub(crate) fn new(seed: u64, lane: usize, longest: Duration) -> Self {
        // An odd multiplier: lanes of one seed and seeds of one lane all differ.
        let rng = Rng::with_seed(seed ^ (lane as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self {
            rng,
            way: Way::of_lane(lane),
            kinds: Vec::new(),
            longest: longest.as_secs_f64(),
        }
    }

    /// The next step; there is always one.
    pub(crate) fn next_step(&mut self) -> Step {
        let rest = match self.rng.u8(..100) {
            0..3 => self.between(15.0, 25.0),
            _ => self.between(0.3, 1.5),
        };
        let what = match self.rng.u8(..100) {
            0..4 => What::Birth {
                end: self.end(),
                faults: Vec::new(),
            },
            4..8 => {
                let end = self.end();
                let fault = self.planned(Duration::ZERO);
                if fault.kind.is_alone() {
                    What::Faults(vec![fault])
                } else {
                    let faults = vec![fault];
                    What::Birth { end, faults }
                }
            }
            8..28 => What::Faults(self.group()),
            _ => What::Faults(vec![self.planned(Duration::ZERO)]),
        };
        Step { rest, what }
    }

    /// Two or three at once.
    fn group(&mut self) -> Vec<Planned> {
        let first = self.planned(Duration::ZERO);
        let mut group = vec![first];
        if first.kind.is_alone() {
            return group;
        }
        for _ in 0..self.rng.u8(1..3) {
            let after = self.between(0.0, 2.0);
            let next = self.planned(after);
            let resource = next.kind.resource();
            let clashes = |other: &Planned| other.kind.resource() == resource;
            let fits = resource == Resource::Filter || !group.iter().any(clashes);
            if fits && !next.kind.is_alone() {
                group.push(next);
            }
        }
        group
    }

    fn planned(&mut self, after: Duration) -> Planned {
        // Every kind equally often: like a pack of cards that is reshuffled when it is used up.
        if self.kinds.is_empty() {
            self.kinds = self.way.kinds();
            self.rng.shuffle(&mut self.kinds);
        }
        let kind = self.kinds.pop().unwrap_or(Kind::Reset);
        // Log-uniform.
        let ratio = self.longest / SHORTEST;
        let length = Duration::from_secs_f64(SHORTEST * ratio.powf(self.rng.f64()));
        // Half are long enough to show more, the other half have any length.
        let length = length
            + if self.rng.bool() {
                kind.is_told_after()
            } else {
                Duration::ZERO
            };
        Planned {
            kind,
            after,
            length,
        }
    }

    fn end(&mut self) -> End {
        match self.rng.u8(..4) {
            0..2 => End::Killed,
            2 => End::Deleted,
            _ => End::ByKubelet,
        }
    }

    fn between(&mut self, from: f64, to: f64) -> Duration {
        Duration::from_secs_f64(from + (to - from) * self.rng.f64())
    }
}

/// The shortest fault, seconds.
const SHORTEST: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn a_seed_gives_the_same_steps_again() {
        let steps = |seed, lane| -> Vec<String> {
            let mut schedule = Schedule::new(seed, lane, LONGEST);
            (0..50)
                .map(|_| format!("{:?}", schedule.next_step()))
                .collect()
        };
        assert_eq!(steps(7, 0), steps(7, 0));
        assert_ne!(steps(7, 0), steps(7, 1));
        assert_ne!(steps(7, 0), steps(8, 0));
    }

    #[test]
    fn every_kind_comes_and_none_clashes() {
        let mut seen = std::collections::BTreeSet::new();
        for lane in 0..5 {
            let mut schedule = Schedule::new(1, lane, LONGEST);
            for _ in 0..500 {
                let What::Faults(faults) = schedule.next_step().what else {
                    continue;
                };
                for resource in [
                    Resource::Route,
                    Resource::Policy,
                    Resource::Ports,
                    Resource::Wire,
                    Resource::Server,
                    Resource::Names,
                    Resource::Sidecar,
                    Resource::Activator,
                ] {
                    let of = faults.iter().filter(|f| f.kind.resource() == resource);
                    assert!(of.count() <= 1, "{faults:?}");
                }
                seen.extend(faults.iter().map(|fault| fault.kind.name()));
            }
        }
        assert_eq!(seen.len(), Kind::ALL.len());
    }

    #[test]
    fn what_has_rules_of_its_own_comes_alone_and_at_no_birth() {
        for lane in 0..5 {
            let mut schedule = Schedule::new(2, lane, LONGEST);
            for _ in 0..500 {
                let (faults, birth) = match schedule.next_step().what {
                    What::Faults(faults) => (faults, false),
                    What::Birth { faults, .. } => (faults, true),
                };
                let alone = faults.iter().any(|fault| fault.kind.is_alone());
                assert!(!alone || (faults.len() == 1 && !birth), "{faults:?}");
            }
        }
    }
}
