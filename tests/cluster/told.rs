//! What agents tell of a link from some moment on, and that they tell nothing else.

use std::time::SystemTime;

use statlink_tests::{
    collector::Value,
    scenario::metric::{CHECKS, CONNECTS, ERRORS, REACHABLE},
};

use crate::{
    SOON,
    world::{Agent, World, series, wait},
};

/// What every agent had told of a link when a scenario began.
pub(crate) struct Before {
    activator: String,
    /// How many exports there were.
    pub(crate) marks: [usize; 2],
}

/// An error that was told, and when the Collector had it.
struct Told {
    cause: String,
    at: SystemTime,
}

impl World {
    /// Remembers what is told of a link so far.
    pub(crate) fn before(&self, activator: &str) -> Before {
        Before {
            activator: activator.to_owned(),
            marks: self.agents.each_ref().map(|agent| agent.exports.mark()),
        }
    }

    /// Waits until each agent has told a new error of this kind, and for one of its causes; a line
    /// each for the table, of the time since `since`.
    pub(crate) fn told(
        &mut self,
        scenario: &str,
        before: &Before,
        since: SystemTime,
        kind: &str,
        causes: &[&str],
    ) {
        self.told_by(scenario, before, since, kind, |_| causes.to_vec());
    }

    /// The same with other causes for each profile.
    pub(crate) fn told_by<'a>(
        &mut self,
        scenario: &str,
        before: &Before,
        since: SystemTime,
        kind: &str,
        causes: impl Fn(&str) -> Vec<&'a str>,
    ) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            let wanted = causes(agent.profile);
            let mut found = None;
            let what = format!("{kind} error for {wanted:?} from {}", agent.profile);
            wait(&what, || {
                let mut errors = new_errors(agent, mark, &before.activator, kind).into_iter();
                found = errors.find(|told| wanted.contains(&told.cause.as_str()));
                found.is_some()
            });
            let Told { cause, at } = found.unwrap();
            let after = at.duration_since(since).unwrap_or_default();
            self.table
                .told(scenario, agent.profile, &cause, Some(after));
        }
    }

    /// Every new error of this kind so far is for one of these causes, and there is one.
    pub(crate) fn nothing_but(&self, before: &Before, kind: &str, causes: &[&str]) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            let errors = new_errors(agent, mark, &before.activator, kind);
            let told: Vec<_> = errors.iter().map(|told| told.cause.as_str()).collect();
            assert!(
                told.iter().all(|cause| causes.contains(cause)),
                "{kind} of {}: {told:?}",
                agent.profile
            );
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
                let mut of = points.filter(|point| point.is(REACHABLE, &series(&before.activator)));
                assert!(
                    of.all(|point| point.value == Value::Gauge(value)),
                    "{}",
                    agent.profile
                );
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
                .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log(&self.cluster)));
        }
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            agent.wait_gauge(&self.cluster, mark, &before.activator, 1.0);
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

    /// Asserts that nothing was told of a link since then but that it is up, as long as it was
    /// told of at all.
    pub(crate) fn no_outage(&self, before: &Before) {
        for (agent, &mark) in self.agents.iter().zip(&before.marks) {
            agent.assert_up(mark, &before.activator);
        }
    }
}

impl Agent {
    fn assert_up(&self, mark: usize, activator: &str) {
        let of = series(activator);
        let errors = self.errors_at(mark, &of);
        self.exports.read(|exports| {
            for point in exports[mark..].iter().flat_map(|export| &export.points) {
                if point.is(REACHABLE, &of) {
                    assert_eq!(
                        point.value,
                        Value::Gauge(1.0),
                        "{}: {point:#?}",
                        self.profile
                    );
                }
                if point.is(ERRORS, &of) {
                    let was = errors.iter().find(|(of, _)| *of == point.attributes);
                    let was = was.map_or(0.0, |(_, value)| *value);
                    assert!(point.value.number() <= was, "{}: {point:#?}", self.profile);
                }
            }
        });
    }

    /// The newest number of a series before `mark`.
    fn number_at(&self, mark: usize, metric: &str, of: &[(&str, &str)]) -> f64 {
        self.exports.read(|exports| {
            let points = exports[..mark]
                .iter()
                .rev()
                .flat_map(|export| &export.points);
            let mut points = points.filter(|point| point.is(metric, of));
            points.next().map_or(0.0, |point| point.value.number())
        })
    }

    /// The newest number of each series of errors before `mark`.
    fn errors_at(
        &self,
        mark: usize,
        of: &[(&str, &str)],
    ) -> Vec<(statlink_tests::collector::Attributes, f64)> {
        self.exports.read(|exports| {
            let mut newest = std::collections::BTreeMap::new();
            for point in exports[..mark].iter().flat_map(|export| &export.points) {
                if point.is(ERRORS, of) {
                    newest.insert(point.attributes.clone(), point.value.number());
                }
            }
            newest.into_iter().collect()
        })
    }
}

/// The errors of a kind that were told after `mark`, each cause once, in their order.
fn new_errors(agent: &Agent, mark: usize, activator: &str, kind: &str) -> Vec<Told> {
    let of = [&series(activator)[..], &[("kn.check.kind", kind)]].concat();
    let before = agent.errors_at(mark, &of);
    agent.exports.read(|exports| {
        let mut told: Vec<Told> = Vec::new();
        for export in &exports[mark..] {
            for point in export.points.iter().filter(|point| point.is(ERRORS, &of)) {
                let was = before.iter().find(|(of, _)| *of == point.attributes);
                let was = was.map_or(0.0, |(_, value)| *value);
                let cause = &point.attributes["error.type"];
                if point.value.number() > was && !told.iter().any(|told| told.cause == *cause) {
                    told.push(Told {
                        cause: cause.clone(),
                        at: export.arrived,
                    });
                }
            }
        }
        told
    })
}
