//! One lane's steps: rest, faults, settling.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    figures::Figures,
    judge::{Before, Window, Wrong},
    lane::{Lane, Undo},
    options::Plan,
    run::Run,
    schedule::{Planned, Schedule, Step, What},
};

/// One lane, its schedule and its state.
pub(crate) struct Stream {
    pub(crate) lane: Lane,
    schedule: Schedule,
    pub(crate) state: State,
    /// The figures when all was last calm. They must not change before the next fault.
    pub(crate) calm: Option<Figures>,
}

pub(crate) enum State {
    /// Waits until the agent exports that the link is reachable.
    Waiting {
        since: SystemTime,
    },
    Resting {
        until: Instant,
        next: What,
    },
    Faulty {
        window: Window,
        begun: Instant,
        pending: Vec<Planned>,
        active: Vec<(Instant, usize, Undo)>,
    },
    Settling {
        window: Window,
    },
    /// Waits until all lanes rest.
    Parked,
}

impl Stream {
    pub(crate) fn new(lane: Lane, plan: &Plan, number: usize) -> Self {
        Self {
            lane,
            schedule: Schedule::new(plan.seed, number, plan.longest),
            state: State::Waiting {
                since: SystemTime::now(),
            },
            calm: None,
        }
    }

    /// Its state in one letter.
    pub(crate) const fn symbol(&self) -> char {
        match self.state {
            State::Waiting { .. } => 'w',
            State::Resting { .. } => '.',
            State::Faulty { .. } => 'F',
            State::Settling { .. } => 's',
            State::Parked => 'p',
        }
    }

    /// Whether its activator is new.
    pub(crate) const fn is_born(&self) -> bool {
        match &self.state {
            State::Faulty { window, .. } | State::Settling { window } => window.birth,
            State::Waiting { .. } => true,
            State::Resting { .. } | State::Parked => false,
        }
    }

    /// The agent was restarted: its counters begin at 0.
    pub(crate) fn restarted(&mut self, when: (SystemTime, SystemTime)) {
        self.calm = None;
        match &mut self.state {
            State::Faulty { window, .. } | State::Settling { window } => {
                window.restarted = Some(when);
                window.before = Before {
                    history: window.before.history,
                    ..Before::default()
                };
            }
            State::Waiting { .. } | State::Resting { .. } | State::Parked => {
                self.state = State::Waiting { since: when.1 };
            }
        }
    }
}

impl Run<'_> {
    /// Does what is due on one lane. With `park`, starts nothing new.
    pub(crate) fn step(&mut self, number: usize, park: bool) -> Result<()> {
        let state = std::mem::replace(&mut self.stream(number)?.state, State::Parked);
        let state = match state {
            State::Parked if park => State::Parked,
            State::Parked => self.rest(number)?,
            State::Waiting { since } => self.wait(number, since)?,
            State::Resting { until, next } => {
                let waits = Instant::now() < until || !self.may_begin(&next);
                if !park && waits {
                    State::Resting { until, next }
                } else {
                    self.judge_quiet(number)?;
                    if park {
                        State::Parked
                    } else {
                        self.begin(number, next)?
                    }
                }
            }
            State::Faulty {
                window,
                begun,
                pending,
                active,
            } => self.inject(number, window, begun, pending, active)?,
            State::Settling { window } => self.settle(number, window)?,
        };
        self.stream(number)?.state = state;
        Ok(())
    }

    pub(crate) fn stream(&mut self, number: usize) -> Result<&mut Stream> {
        self.streams.get_mut(number).context("no such lane")
    }

    pub(crate) fn rest(&mut self, number: usize) -> Result<State> {
        let Step { rest, what } = self.stream(number)?.schedule.next_step();
        self.steps.push(json!({
            "at": self.start.elapsed().as_secs_f64(),
            "lane": number,
            "rest": rest.as_secs_f64(),
            "step": format!("{what:?}"),
        }));
        Ok(State::Resting {
            until: Instant::now() + rest,
            next: what,
        })
    }

    /// A pod that starts while the API is away is unknown until the API is back; how long that
    /// takes is not judged.
    fn may_begin(&self, next: &What) -> bool {
        matches!(next, What::Faults(_)) || (self.api_back.is_none() && self.site.is_followed())
    }

    /// Waits for a link that is new to the agent.
    fn wait(&mut self, number: usize, since: SystemTime) -> Result<State> {
        if self.is_calm(number, since, SETTLE)? {
            let newest = self.newest(number)?;
            self.stream(number)?.calm = Some(newest);
            return self.rest(number);
        }
        if since.elapsed().unwrap_or_default() > PATIENCE {
            let lane = self.stream(number)?.lane.describe();
            let text = format!("{lane}: not reachable {PATIENCE:?} after its begin");
            self.add_wrong(Wrong::NotRecovered, text);
            return Ok(State::Waiting {
                since: SystemTime::now(),
            });
        }
        Ok(State::Waiting { since })
    }

    /// Judges that nothing changed since all was calm.
    fn judge_quiet(&mut self, number: usize) -> Result<()> {
        let newest = self.newest(number)?;
        let stream = self.stream(number)?;
        let Some(calm) = stream.calm.take() else {
            return Ok(());
        };
        let silent = newest.all_errors() == calm.all_errors()
            && newest.checks("connect") == calm.checks("connect")
            && newest.checks("disconnect") == calm.checks("disconnect")
            && newest.connects == calm.connects
            && newest.reachable == Some(true);
        if !silent {
            let lane = stream.lane.describe();
            let change = newest.change_from(&calm);
            let text = format!("{lane}: {change} while nothing was done to it");
            self.add_wrong(Wrong::FalseOutage, text);
        }
        Ok(())
    }

    /// Whether the activator is connected, nothing has happened to it for long enough, and the
    /// agent has exported since.
    pub(crate) fn is_calm(
        &mut self,
        number: usize,
        healed: SystemTime,
        settle: Duration,
    ) -> Result<bool> {
        let newest = self.newest(number)?;
        let reported = self.ledger.made();
        let stream = self.streams.get(number).context("no such lane")?;
        let history = &stream.lane.history;
        let mut last = history.last().map_or(healed, |last| last.max(healed));
        // The first export of a link has its counters at 0, so that the first error is a
        // difference; the counts follow.
        let first = self.ledger.of(stream.lane.pod_name()).exports.first();
        if let Some(first) = first.and_then(|figures| figures.observed) {
            last = last.max(first);
        }
        Ok(history.connected()
            && last.elapsed().is_ok_and(|quiet| quiet >= settle)
            && newest.reachable == Some(true)
            && reported.is_some_and(|reported| reported >= last + EXPORTED_WITHIN))
    }

    pub(crate) fn newest(&self, number: usize) -> Result<Figures> {
        let stream = self.streams.get(number).context("no such lane")?;
        Ok(self.ledger.of(stream.lane.pod_name()).newest())
    }
}

/// A connection is confirmed after 250 ms, an export may wait 200 ms.
pub(crate) const SETTLE: Duration = Duration::from_millis(1_000);
const EXPORTED_WITHIN: Duration = Duration::from_millis(600);
/// Its longest wait between two dials is 20 s, and a dial may take 3 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(75);
