//! What agents tell of a link from some moment on, and that they tell nothing else.

use std::time::SystemTime;

use statlink_tests::{
    collector::Export,
    scenario::metric::{CHECKS, CONNECTS, REACHABLE},
};

use crate::{
    SOON,
    history::Told,
    witness::Witness,
    world::{World, series, soon, wait},
};

/// What every agent had told of a link when a scenario began.
pub(crate) struct Before {
    activator: String,
    /// How many exports there were.
    marks: [usize; 2],
}

/// The causes that an agent of a profile may tell.
pub(crate) type Causes = fn(&str) -> &'static [&'static str];

/// What a Service without endpoints, refused by kube-proxy, comes to. Without tracefs an ICMP
/// error that arrives within connect() is not seen, and the dialler then gives up.
pub(crate) const REFUSED: Causes = |profile| match profile {
    "privileged" => &["connection_refused"],
    _ => &["connection_refused", "cancelled"],
};

/// The same, of an autoscaler that goes: it may still answer, or be gone before kube-proxy hears.
pub(crate) const GOING: Causes = |profile| match profile {
    "privileged" => &GOING_ALL[1..],
    _ => GOING_ALL,
};

/// What is told with tracefs and, first, what is told without.
const GOING_ALL: &[&str] = &[
    "cancelled",
    "connection_refused",
    "handshake_failed",
    "timeout",
    "host_unreachable",
];

impl World {
    /// Remembers what is told of a link so far.
    pub(crate) fn before(&self, activator: &str) -> Before {
        Before {
            activator: activator.to_owned(),
            marks: self.marks(),
        }
    }

    /// How many exports of each agent there are so far.
    pub(crate) fn marks(&self) -> [usize; 2] {
        self.agents.each_ref().map(|agent| agent.exports.mark())
    }

    /// Waits until each agent has told a new error of this kind, for one of its profile's causes;
    /// a line each for the table, of the time since `since`.
    pub(crate) fn told(
        &mut self,
        scenario: &str,
        before: &Before,
        since: SystemTime,
        kind: &str,
        causes: Causes,
    ) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            let wanted = causes(agent.profile);
            let mut told = Vec::new();
            let wanted = |told: &&Told| wanted.contains(&told.cause.as_str());
            let is_told = soon(|| {
                told = agent.new_errors(mark, &before.activator, kind);
                told.iter().find(wanted).is_some()
            });
            assert!(
                is_told,
                "{scenario}: the {} agent tells {kind} errors {told:?}; its log: {}",
                agent.profile,
                agent.log(&self.cluster)
            );
            let Told { cause, at } = told.iter().find(wanted).unwrap();
            let after = at.duration_since(since).unwrap_or_default();
            self.table.told(scenario, agent.profile, cause, Some(after));
        }
    }

    /// Does something to an activator's connection, and tells as [`World::told`] does, since the
    /// connection was lost; gives what was told before, and that moment.
    pub(crate) fn lose(
        &mut self,
        scenario: &str,
        activator: &str,
        act: impl FnOnce(&mut Self),
        kind: &str,
        causes: Causes,
    ) -> (Before, SystemTime) {
        let before = self.before(activator);
        let witness = Witness::of(self.pid(activator));
        act(self);
        let lost = witness.lost();
        self.told(scenario, &before, lost, kind, causes);
        (before, lost)
    }

    /// Scales the autoscaler to 0, and waits until each agent has told the loss, the gauge and that
    /// kube-proxy refuses to a Service without endpoints; gives what was told before.
    pub(crate) fn lose_autoscaler(&mut self, scenario: &str, activator: &str) -> Before {
        let closed: Causes = |_| &["peer_closed"];
        let to_zero = |world: &mut Self| world.scale_autoscaler(0);
        let (before, lost) = self.lose(scenario, activator, to_zero, "disconnect", closed);
        self.gauge(&before, 0.0);
        let dialled = format!("{scenario}, dialled");
        self.told(&dialled, &before, lost, "connect", REFUSED);
        before
    }

    /// Asserts that no new error of this kind is for another cause than its profile's.
    pub(crate) fn nothing_but(&self, before: &Before, kind: &str, causes: Causes) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            let wanted = causes(agent.profile);
            for Told { cause, .. } in agent.new_errors(mark, &before.activator, kind) {
                let told = wanted.contains(&cause.as_str());
                assert!(
                    told,
                    "{}: {kind}, {cause}, not of {wanted:?}",
                    agent.profile
                );
            }
        }
    }

    /// Waits until each agent tells this gauge, since the scenario began.
    pub(crate) fn gauge(&self, before: &Before, value: f64) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            agent.wait_gauge(&self.cluster, mark, &before.activator, value);
        }
    }

    /// Asserts that each agent has told this gauge and no other since the scenario began.
    pub(crate) fn always(&self, before: &Before, value: f64) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            agent.exports.read(|exports| {
                let points = exports[mark..].iter().flat_map(|export| &export.points);
                let of = points.filter(|point| point.is(REACHABLE, &series(&before.activator)));
                let told: Vec<_> = of.map(|point| point.value.number()).collect();
                let always = !told.is_empty() && told.iter().all(|told| *told == value);
                assert!(always, "{}: {told:?}", agent.profile);
            });
        }
    }

    /// Waits until each agent has counted a new connection since the scenario began, and tells
    /// that the link is up.
    pub(crate) fn recovered(&self, before: &Before) {
        let of = series(&before.activator);
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            let was = agent.number_at(mark, CONNECTS, &of);
            agent
                .exports
                .wait_for_after(mark, CONNECTS, &of, SOON, |point| {
                    point.value.number() > was
                })
                .map_err(|error| error.context(agent.log(&self.cluster)))
                .unwrap();
        }
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            agent.wait_gauge(&self.cluster, mark, &before.activator, 1.0);
        }
    }

    /// Waits until the counters of each agent have begun anew: from 0, to one connection.
    pub(crate) fn begun_anew(&self, before: &Before) {
        let of = series(&before.activator);
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            let mut zero = mark;
            for number in [0.0, 1.0] {
                let counted = |exports: &[Export]| {
                    let found = exports[zero..].iter().position(|export| {
                        let mut points = export.points.iter();
                        points
                            .any(|point| point.is(CONNECTS, &of) && point.value.number() == number)
                    });
                    found.map(|further| zero + further)
                };
                let mut found = None;
                wait(
                    &format!("{number} connections by {}", agent.profile),
                    || {
                        found = agent.exports.read(counted);
                        found.is_some()
                    },
                );
                zero = found.unwrap();
            }
        }
    }

    /// Asserts that a link that was not touched was told to be up all the time since then, with
    /// a check at least and no error; a line each for the table.
    pub(crate) fn steady(&mut self, scenario: &str, before: &Before) {
        let of = series(&before.activator);
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            let liveness = [&of[..], &[("kn.check.kind", "liveness")]].concat();
            let was = agent.number_at(mark, CHECKS, &liveness);
            agent
                .exports
                .wait_for_after(mark, CHECKS, &liveness, SOON, |point| {
                    point.value.number() > was
                })
                .unwrap();
            agent.assert_up(mark, &before.activator);
            self.table.told(scenario, agent.profile, "none", None);
        }
    }

    /// The same from now on.
    pub(crate) fn stays_up(&mut self, scenario: &str, activator: &str) {
        let before = self.before(activator);
        self.steady(scenario, &before);
    }

    /// Asserts that nothing was told of a link since then but that it is up, as long as it was
    /// told of at all.
    pub(crate) fn no_outage(&self, before: &Before) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            agent.assert_up(mark, &before.activator);
        }
    }
}
