//! Activators that have ended.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use statlink_tests::{fault::Faults, netns::Pod, peer::Activator};

use crate::{
    catalogue::{Kind, Resource},
    figures::Figures,
    judge::Wrong,
    lane::Home,
    run::Run,
    schedule::End,
};

/// An activator that has ended.
pub(crate) struct Former {
    activator: Activator,
    home: Home,
    server: Pod,
    since: Instant,
    /// Whether its end was announced, and the loss that often comes first is still to come: of its
    /// sidecar, or of its connection. It must not be reported.
    loss_is_due: bool,
    /// The figures before its end. They must not change: the end is expected.
    before: Figures,
    ended: Option<SystemTime>,
    /// The next activator of this lane has the same autoscaler: a fault of that one is also this one's.
    lane: usize,
    disturbed: bool,
}

impl Former {
    pub(crate) fn new(
        (activator, home): (Activator, Home),
        server: Pod,
        end: End,
        before: Figures,
        lane: usize,
    ) -> Self {
        Self {
            activator,
            home,
            server,
            since: Instant::now(),
            loss_is_due: end != End::Killed,
            before,
            ended: None,
            lane,
            disturbed: false,
        }
    }

    /// A fault of this kind was injected on `lane`. Most kinds affect only one pod, and once its
    /// end is known nothing is reported about it.
    pub(crate) fn disturb(&mut self, lane: usize, kind: Kind) {
        let shared = matches!(kind.resource(), Resource::Server | Resource::Wire);
        self.disturbed |= shared && lane == self.lane && self.since.elapsed() < ANNOUNCED;
    }

    fn lose(&mut self) {
        if !self.loss_is_due || self.since.elapsed() < ANNOUNCED {
            return;
        }
        self.loss_is_due = false;
        match &mut self.home.sidecar {
            Some(sidecar) => sidecar.kill(),
            // It may have lost its connection already.
            None => {
                let _ = Faults::new(&self.activator.pod, &self.server).reset_established();
            }
        }
    }
}

impl Run<'_> {
    /// Judges that ended activators report nothing but their last counts, and that their end was no
    /// error.
    pub(crate) fn judge_former(&mut self) -> Result<()> {
        let mut wrong = Vec::new();
        for former in &mut self.former {
            former.lose();
            if former.ended.is_none() && !former.activator.process.is_running() {
                former.ended = Some(SystemTime::now());
                self.site.gone(&former.home.registered);
            }
            let pod = &former.activator.pod.name;
            let reported = self.ledger.of(pod);
            let newest = reported.newest();
            if newest.all_errors() > former.before.all_errors() && !former.disturbed {
                wrong.push(format!(
                    "the expected end of {pod}: {}",
                    newest.change_from(&former.before)
                ));
                former.before = newest.clone();
            }
            // An export was under way when it ended. Its last counts follow, however long the
            // Collector was away.
            if let Some(ended) = former.ended
                && newest.reachable.is_some()
                && reported
                    .made()
                    .is_some_and(|at| at > ended + EXPORT_IN_FLIGHT)
            {
                wrong.push(format!("{pod} was told of after its end"));
                former.ended = Some(SystemTime::now());
            }
        }
        for text in wrong {
            self.add_wrong(Wrong::FalseOutage, text);
        }
        self.former.retain(|former| {
            let age = former.ended.and_then(|ended| ended.elapsed().ok());
            age.is_none_or(|age| age < KEPT)
        });
        Ok(())
    }
}

/// The time for the announcement of an end to reach the agent.
const ANNOUNCED: Duration = Duration::from_secs(1);
/// The time for an export that was in flight at the end, and for the agent to learn of the end.
const EXPORT_IN_FLIGHT: Duration = Duration::from_secs(1);
const KEPT: Duration = Duration::from_secs(10);
