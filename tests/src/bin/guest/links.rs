//! The links that are judged: one for each form in which Knative's client reaches its server.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use statlink_tests::{
    container::Container,
    fault::{Fault, Faults},
    figures::Figures,
    mock_api::{self, MockApi, Objects},
    peer::{Activator, Traffic},
    scenario::Bed,
};

use crate::PATIENCE;

/// Three activators of one autoscaler.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) all: Vec<Link>,
}

/// An activator in its container.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) form: &'static str,
    pub(crate) activator: Activator,
    container: Container,
}

/// The progress of a link at an instant.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) figures: Figures,
    pub(crate) lines: usize,
    pub(crate) agent_lines: usize,
}

impl Links {
    /// Starts them, and waits until Knative's log says that they are connected.
    pub(crate) fn start(bed: &Bed) -> Result<Self> {
        let v6 = bed.autoscaler.as_ref().context("no autoscaler")?.v6();
        let flowing = Traffic::Every(Duration::from_secs(1));
        let forms = [
            ("v4-stats", bed.target(), flowing),
            ("v4-idle", bed.target(), Traffic::Idle),
            ("v6-stats", v6, flowing),
        ];
        let all = forms.into_iter().map(|(form, target, traffic)| {
            let pod = bed.network.pod(form)?;
            let container = Container::new(&uid(form))?;
            let url = format!("ws://{target}");
            let activator =
                Activator::start_in_with(&container, &pod, &url, traffic, [] as [&str; 0])?;
            Ok(Link {
                form,
                activator,
                container,
            })
        });
        let mut all = all.collect::<Result<Vec<_>>>()?;
        for link in &mut all {
            link.activator.wait_connected(PATIENCE)?;
        }
        Ok(Self { all })
    }

    /// A Kubernetes API that lists their pods, reachable from the node.
    pub(crate) fn api(&self, bed: &Bed) -> Result<MockApi> {
        let pods = self.all.iter().map(|link| {
            let pod = &link.activator.pod;
            let containers = [("activator", &link.container)];
            mock_api::pod(
                &pod.system_namespace,
                &pod.name,
                &uid(link.form),
                &containers,
            )
        });
        let objects = Objects {
            pods: pods.collect(),
            // Without the peer's addresses, no destination is wrong.
            services: Vec::new(),
        };
        MockApi::start(objects, Some(bed.network.node()))
    }

    /// The same fault on each link.
    pub(crate) fn faults(
        &self,
        bed: &Bed,
        inject: impl Fn(&Faults<'_>) -> Result<Option<Fault>>,
    ) -> Result<Vec<Fault>> {
        let faults = self.all.iter().map(|link| {
            let faults = bed.faults(&link.activator);
            inject(&faults).with_context(|| format!("break {}", link.form))
        });
        Ok(faults
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    }

    /// Waits until both Knative and the agent say that they are connected again.
    pub(crate) fn wait_back(&mut self, bed: &Bed, since: &[Mark]) -> Result<()> {
        for (link, mark) in self.all.iter_mut().zip(since) {
            link.activator
                .wait_connected_after(mark.lines, KNATIVE)
                .with_context(|| format!("Knative did not connect {} again", link.form))?;
        }
        self.wait_checks(bed, 1)
    }

    /// Waits until each link has had this many more liveness checks: earlier events have had their
    /// effect by then.
    pub(crate) fn wait_checks(&self, bed: &Bed, more: u32) -> Result<()> {
        let checks = |link: &Link| Figures::of(bed, &link.activator).checks("liveness");
        let before: Vec<_> = self.all.iter().map(checks).collect();
        patiently("liveness check", || {
            let enough = |(link, before): (&Link, &f64)| checks(link) >= before + f64::from(more);
            Ok(self.all.iter().zip(&before).all(enough).then_some(()))
        })
    }
}

impl Link {
    pub(crate) fn mark(&self, bed: &Bed) -> Mark {
        Mark {
            figures: Figures::of(bed, &self.activator),
            lines: self.activator.process.mark(),
            agent_lines: bed.agent.as_ref().map_or(0, |agent| agent.process.mark()),
        }
    }

    /// How many dials failed since then, by Knative's own log.
    pub(crate) fn failed_dials(&self, since: &Mark) -> usize {
        let lines = self.activator.process.lines_after(since.lines);
        let failed = lines
            .iter()
            .filter(|line| line.event() == Some("dial_failed"));
        failed.count()
    }

    /// The link is up, and has no error beyond those of `since`.
    pub(crate) fn is_well(&self, bed: &Bed, since: &Figures) -> Result<()> {
        let now = Figures::of(bed, &self.activator);
        ensure!(now.reachable == Some(1.0), "not reachable: {now:?}");
        ensure!(
            now.errors == since.errors,
            "errors of a healthy link: {:?}, before {:?}",
            now.errors,
            since.errors
        );
        Ok(())
    }
}

/// Polls less often than [`statlink_tests::wait`]: an emulated CPU has better things to do.
pub(crate) fn patiently<T>(what: &str, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ready()? {
            return Ok(answer);
        }
        ensure!(begin.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        thread::sleep(PERIOD);
    }
}

const PERIOD: Duration = Duration::from_millis(200);

/// A pod's uid, in the API server's form.
fn uid(form: &str) -> String {
    let number = form.bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    format!("{number:08x}-0000-4000-8000-000000000000")
}

/// Knative's longest back-off is 20 s, and a dial's deadline 3 s.
const KNATIVE: Duration = Duration::from_secs(90);
