//! What both agents must report about a link from a moment on, and that they report nothing else.

use std::time::SystemTime;

use statlink_tests::scenario::metric::{CHECKS, CONNECTS, REACHABLE};

use crate::{
    SOON,
    activator_sockets::Witness,
    agent_exports::ExportedError,
    world::{Agent, World, series, soon},
};

/// The moment when a scenario on a link began.
pub(crate) struct Before {
    activator: String,
    /// How many exports each agent had made.
    marks: [usize; 2],
}

/// The causes that an agent of a profile may report. Both profiles see the same.
pub(crate) type Causes = fn(&str) -> &'static [&'static str];

/// The causes of dials to a Service without endpoints, which kube-proxy refuses.
pub(crate) const REFUSED: Causes = |_| &["connection_refused"];

/// The same while an autoscaler goes away: it may still answer, or be gone before kube-proxy knows.
pub(crate) const GOING: Causes = |_| {
    &[
        "connection_refused",
        "handshake_failed",
        "timeout",
        "host_unreachable",
    ]
};

impl World {
    /// Remembers this moment.
    pub(crate) fn before(&self, activator: &str) -> Before {
        Before {
            activator: activator.to_owned(),
            marks: self.marks(),
        }
    }

    /// How many exports each agent has made so far.
    pub(crate) fn marks(&self) -> [usize; 2] {
        self.agents.each_ref().map(|agent| agent.exports.mark())
    }

    /// Waits until each agent has reported a new error of this kind, for one of its profile's causes.
    /// Adds a line each to the table, with the time since `since`.
    pub(crate) fn wait_errors(
        &mut self,
        scenario: &str,
        before: &Before,
        since: SystemTime,
        kind: &str,
        causes: Causes,
    ) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            let wanted = causes(agent.profile);
            let mut new = Vec::new();
            let wanted = |error: &&ExportedError| wanted.contains(&error.cause.as_str());
            let found = soon(|| {
                new = agent.new_errors(mark, &before.activator, kind);
                new.iter().find(wanted).is_some()
            });
            assert!(
                found,
                "{scenario}: the {} agent reports {kind} errors {new:?}; its log: {}",
                agent.profile,
                agent.log(&self.cluster)
            );
            let ExportedError { cause, at } = new.iter().find(wanted).unwrap();
            let after = at.duration_since(since).unwrap_or_default();
            self.table.add(scenario, agent.profile, cause, Some(after));
        }
    }

    /// Does something to an activator's connection, and waits for errors as [`World::wait_errors`]
    /// does; gives the moment before, and that at which the connection was lost.
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
        self.wait_errors(scenario, &before, lost, kind, causes);
        (before, lost)
    }

    /// Scales the autoscaler to 0, and waits until each agent has reported the loss, the gauge and
    /// refused dials; gives the moment before.
    pub(crate) fn lose_autoscaler(&mut self, scenario: &str, activator: &str) -> Before {
        let closed: Causes = |_| &["peer_closed"];
        let to_zero = |world: &mut Self| world.scale_autoscaler(0);
        let (before, lost) = self.lose(scenario, activator, to_zero, "disconnect", closed);
        self.gauge(&before, 0.0);
        let dialled = format!("{scenario}, dialled");
        self.wait_errors(&dialled, &before, lost, "connect", REFUSED);
        before
    }

    /// Asserts that no new error of this kind is for another cause than its profile's.
    pub(crate) fn nothing_but(&self, before: &Before, kind: &str, causes: Causes) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            let wanted = causes(agent.profile);
            for ExportedError { cause, .. } in agent.new_errors(mark, &before.activator, kind) {
                assert!(
                    wanted.contains(&cause.as_str()),
                    "{}: {kind}, {cause}, not of {wanted:?}:\n{}",
                    agent.profile,
                    agent.log(&self.cluster)
                );
            }
        }
    }

    /// Waits until each agent exports this gauge, since the scenario began.
    pub(crate) fn gauge(&self, before: &Before, value: f64) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            agent.wait_gauge(&self.cluster, mark, &before.activator, value);
        }
    }

    /// Asserts that each agent has exported this gauge and no other since the scenario began.
    pub(crate) fn always(&self, before: &Before, value: f64) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            agent.exports.read(|exports| {
                let points = exports[mark..].iter().flat_map(|export| &export.points);
                let of = points.filter(|point| point.is(REACHABLE, &series(&before.activator)));
                let gauges: Vec<_> = of.map(|point| point.value.number()).collect();
                let always = !gauges.is_empty() && gauges.iter().all(|gauge| *gauge == value);
                assert!(always, "{}: {gauges:?}", agent.profile);
            });
        }
    }

    /// Waits until each agent has counted a new connection since the scenario began, and exports that
    /// the link is reachable.
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

    /// Waits until each agent has counted a new connection since the scenario began; asserts that its
    /// count of them never fell.
    pub(crate) fn wait_counters_go_on(&self, before: &Before) {
        let of = series(&before.activator);
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            let was = agent.number_at(mark, CONNECTS, &of);
            let further = agent
                .exports
                .wait_for_after(mark, CONNECTS, &of, SOON, |point| {
                    point.value.number() > was
                });
            further.unwrap();
            agent.exports.read(|exports| {
                let points = exports[mark..].iter().flat_map(|export| &export.points);
                let of = points.filter(|point| point.is(CONNECTS, &of));
                let counts: Vec<_> = of.map(|point| point.value.number()).collect();
                let falls = counts.iter().any(|count| *count < was);
                assert!(!falls, "{}: {counts:?} after {was}", agent.profile);
            });
        }
    }

    /// Waits until each agent has counted a liveness check more than now. One comes every 5 s,
    /// whether the link is up or not: what happened before has had its effect by then.
    pub(crate) fn wait_liveness_check(&self, activator: &str) {
        let liveness = [&series(activator)[..], &[("kn.check.kind", "liveness")]].concat();
        let counts = |agent: &Agent| agent.exports.value(CHECKS, &liveness);
        let before = self.agents.each_ref().map(counts);
        for (agent, before) in self.agents.iter().zip(before) {
            agent
                .exports
                .wait_for(CHECKS, &liveness, SOON, |point| {
                    point.value.number() > before
                })
                .unwrap();
        }
    }

    /// Asserts that a link was exported as up since then, up to its next liveness check, and without
    /// an error. Adds a line each to the table.
    pub(crate) fn steady(&mut self, scenario: &str, before: &Before) {
        self.wait_liveness_check(&before.activator);
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            agent.assert_up(mark, &before.activator);
            self.table.add(scenario, agent.profile, "none", None);
        }
    }

    /// The same from now on.
    pub(crate) fn stays_up(&mut self, scenario: &str, activator: &str) {
        let before = self.before(activator);
        self.steady(scenario, &before);
    }

    /// Asserts that every export with this link since then has it up and without a new error.
    pub(crate) fn no_outage(&self, before: &Before) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            agent.assert_up(mark, &before.activator);
        }
    }
}
