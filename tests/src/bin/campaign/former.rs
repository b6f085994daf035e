//! Activators that were told to end.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use statlink_tests::peer::Activator;

use crate::{
    catalogue::{Kind, Resource},
    figures::Figures,
    judge::Wrong,
    lane::Home,
    run::Run,
};

/// An activator that was told to end.
pub(crate) struct Former {
    activator: Activator,
    _home: Home,
    /// What was known of it: nothing may be added, for this end is expected.
    before: Figures,
    ended: Option<SystemTime>,
    /// Its autoscaler is the next one's: a fault of that was this one's, too.
    lane: usize,
    disturbed: bool,
}

impl Former {
    pub(crate) fn new((activator, home): (Activator, Home), before: Figures, lane: usize) -> Self {
        Self {
            activator,
            _home: home,
            before,
            ended: None,
            lane,
            disturbed: false,
        }
    }

    /// A fault of this kind was injected on `lane`: others tell the pods apart.
    pub(crate) fn disturb(&mut self, lane: usize, kind: Kind) {
        let shared = matches!(kind.resource(), Resource::Server | Resource::Wire);
        self.disturbed |= shared && lane == self.lane;
    }
}

impl Run<'_> {
    /// Those that ended are not told of any more, and their end was no error.
    pub(crate) fn bury(&mut self) -> Result<()> {
        let mut wrong = Vec::new();
        for former in &mut self.former {
            if former.ended.is_none() && !former.activator.process.is_running() {
                former.ended = Some(SystemTime::now());
            }
            let pod = &former.activator.pod.name;
            let told = self.ledger.of(pod);
            let newest = told.newest();
            if newest.all_errors() > former.before.all_errors() && !former.disturbed {
                wrong.push(format!(
                    "the expected end of {pod}: {}",
                    newest.change_from(&former.before)
                ));
                former.before = newest;
            }
            // An export under way when it ended.
            if let Some(ended) = former.ended
                && told.arrived().is_some_and(|at| at > ended + UNDER_WAY)
            {
                wrong.push(format!("{pod} was told of after its end"));
                former.ended = Some(SystemTime::now());
            }
        }
        for text in wrong {
            self.tell(Wrong::FalseOutage, text);
        }
        self.former.retain(|former| {
            let age = former.ended.and_then(|ended| ended.elapsed().ok());
            age.is_none_or(|age| age < REMEMBERED)
        });
        Ok(())
    }
}

/// An export that was under way when an activator ended, and the time to hear of its end.
const UNDER_WAY: Duration = Duration::from_secs(1);
const REMEMBERED: Duration = Duration::from_secs(10);
