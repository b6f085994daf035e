//! What is under way on one lane, step by step.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    figures::Figures,
    judge::{Before, Evidence, Injected, Violation, Window, Wrong},
    lane::{Lane, Undo},
    options::Plan,
    run::{Former, Run},
    schedule::{Planned, Schedule, Step, What},
    shrink,
};

/// One lane and what is under way on it.
pub(crate) struct Stream {
    pub(crate) lane: Lane,
    schedule: Schedule,
    pub(crate) state: State,
    /// What it had told when all was last calm; nothing may be added to it until the next fault.
    calm: Option<Figures>,
}

pub(crate) enum State {
    /// Nothing until the agent has told that the link is up.
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
    /// Until all lanes rest together.
    Parked,
}

impl Stream {
    pub(crate) fn new(lane: Lane, plan: &Plan, number: usize) -> Self {
        Self {
            lane,
            schedule: Schedule::new(plan.seed, number as u64, plan.longest),
            state: State::Waiting {
                since: SystemTime::now(),
            },
            calm: None,
        }
    }

    /// How it stands, in one letter.
    pub(crate) const fn symbol(&self) -> char {
        match self.state {
            State::Waiting { .. } => 'w',
            State::Resting { .. } => '.',
            State::Faulty { .. } => 'F',
            State::Settling { .. } => 's',
            State::Parked => 'p',
        }
    }

    /// A new agent has come: what it tells begins anew.
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
    /// Does what is due on one lane; `park`: begins nothing new.
    pub(crate) fn step(&mut self, number: usize, park: bool) -> Result<()> {
        let state = std::mem::replace(&mut self.stream(number)?.state, State::Parked);
        let state = match state {
            State::Parked if park => State::Parked,
            State::Parked => self.rest(number)?,
            State::Waiting { since } => self.wait(number, since)?,
            State::Resting { until, next } => {
                if !park && Instant::now() < until {
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

    fn stream(&mut self, number: usize) -> Result<&mut Stream> {
        self.streams.get_mut(number).context("no such lane")
    }

    fn rest(&mut self, number: usize) -> Result<State> {
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

    /// A link that is new to the agent.
    fn wait(&mut self, number: usize, since: SystemTime) -> Result<State> {
        if self.is_calm(number, since, SETTLE)? {
            let newest = self.newest(number)?;
            self.stream(number)?.calm = Some(newest);
            return self.rest(number);
        }
        if since.elapsed().unwrap_or_default() > PATIENCE {
            let lane = self.stream(number)?.lane.describe();
            let text = format!("{lane}: not reachable {PATIENCE:?} after its begin");
            self.tell(Wrong::NotRecovered, text);
            return Ok(State::Waiting {
                since: SystemTime::now(),
            });
        }
        Ok(State::Waiting { since })
    }

    /// Nothing may have happened since all was calm.
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
            self.tell(Wrong::FalseOutage, text);
        }
        Ok(())
    }

    fn begin(&mut self, number: usize, what: What) -> Result<State> {
        self.windows += 1;
        let mut window = Window {
            number: self.windows,
            start: SystemTime::now(),
            faults: Vec::new(),
            before: Before::default(),
            blind: self.collector_back.is_some(),
            stats: self.stream(number)?.lane.sends_stats(),
            birth: false,
            restarted: None,
        };
        match what {
            What::Faults(faults) => {
                self.injected += faults.len() as u64;
                let Self {
                    streams, ledger, ..
                } = self;
                let lane = &streams.get(number).context("no such lane")?.lane;
                let told = ledger.of(lane.pod_name());
                window.before = Before {
                    figures: told.newest(),
                    kernel: lane.kernel()?,
                    upgrades: lane.upgrades(),
                    history: lane.history.mark(),
                    events: told.events.len(),
                    exports: told.exports.len(),
                };
                self.inject(number, window, Instant::now(), faults, Vec::new())
            }
            What::Birth { kill, faults } => {
                self.injected += faults.len() as u64;
                let before = self.newest(number)?;
                let Self {
                    streams,
                    bed,
                    former,
                    ..
                } = self;
                let lane = &mut streams.get_mut(number).context("no such lane")?.lane;
                former.push(Former::new(lane.depart(bed, kill)?, before, number));
                window.birth = true;
                window.start = SystemTime::now();
                window.before.upgrades = lane.upgrades();
                let state = self.inject(number, window, Instant::now(), faults, Vec::new())?;
                self.stream(number)?.lane.arrive()?;
                Ok(state)
            }
        }
    }

    /// What is due is injected and healed.
    fn inject(
        &mut self,
        number: usize,
        mut window: Window,
        begun: Instant,
        mut pending: Vec<Planned>,
        active: Vec<(Instant, usize, Undo)>,
    ) -> Result<State> {
        window.blind |= self.collector_back.is_some();
        let Self {
            streams, former, ..
        } = self;
        let lane = &mut streams.get_mut(number).context("no such lane")?.lane;
        let mut still = Vec::new();
        for (until, index, undo) in active {
            if Instant::now() < until {
                still.push((until, index, undo));
                continue;
            }
            lane.heal(undo)?;
            if let Some(fault) = window.faults.get_mut(index) {
                fault.healed = Some(SystemTime::now());
            }
        }
        let (due, later): (Vec<_>, _) = std::mem::take(&mut pending)
            .into_iter()
            .partition(|planned| begun.elapsed() >= planned.after);
        pending = later;
        for planned in due {
            former
                .iter_mut()
                .for_each(|former| former.disturb(number, planned.kind));
            let at = SystemTime::now();
            let undo = lane
                .inject(planned.kind)
                .with_context(|| format!("inject {}", planned.kind.name()))?;
            let index = window.faults.len();
            window.faults.push(Injected {
                kind: planned.kind,
                at,
                healed: None,
            });
            still.push((Instant::now() + planned.length, index, undo));
        }
        Ok(if pending.is_empty() && still.is_empty() {
            State::Settling { window }
        } else {
            State::Faulty {
                window,
                begun,
                pending,
                active: still,
            }
        })
    }

    /// Until all is calm; then it is judged.
    fn settle(&mut self, number: usize, mut window: Window) -> Result<State> {
        window.blind |= self.collector_back.is_some();
        let healed = window.healed();
        let aftermath = window.faults.iter().map(Injected::aftermath).max();
        let settle = SETTLE + aftermath.unwrap_or_default();
        let calm = self.is_calm(number, healed, settle)?;
        let late = healed.elapsed().unwrap_or_default() > PATIENCE;
        if !calm && !late {
            return Ok(State::Settling { window });
        }
        let after = self.newest(number)?;
        let stream = self.streams.get(number).context("no such lane")?;
        let lane = &stream.lane;
        let evidence = Evidence {
            seen: lane.history.since(window.before.history),
            told: self.ledger.of(lane.pod_name()),
            after: after.clone(),
            kernel: lane.kernel()?,
            upgrades: lane.upgrades(),
        };
        let mut verdict = window.judge(&evidence);
        if !calm {
            let connected = if lane.history.connected() {
                "connected"
            } else {
                "not connected"
            };
            let text = format!(
                "{PATIENCE:?} after healing the activator is {connected}, the Collector has reachable {:?}",
                after.reachable
            );
            verdict.add(Wrong::NotRecovered, text);
        }
        self.tally.add(&window, &verdict);
        if !verdict.violations.is_empty() {
            let lane = lane.describe();
            let file = shrink::write(
                &self.directory,
                &lane,
                &window,
                &verdict.violations,
                &evidence,
            )?;
            let kinds: Vec<_> = window.faults.iter().map(|f| f.kind.name()).collect();
            let kinds = kinds.join(" + ");
            for Violation { wrong, text } in &verdict.violations {
                println!("WRONG  {}: {kinds} at {lane}: {text}", wrong.name());
            }
            println!("       its window: {}", file.display());
        }
        if !calm {
            // A fresh one, so that what went wrong is counted once.
            let faults = Vec::new();
            return self.begin(number, What::Birth { kill: true, faults });
        }
        self.stream(number)?.calm = Some(after);
        self.rest(number)
    }

    /// Whether the activator is connected, has been left alone by itself and by us for long
    /// enough, and the Collector has been told since.
    fn is_calm(&mut self, number: usize, healed: SystemTime, settle: Duration) -> Result<bool> {
        let newest = self.newest(number)?;
        let told = self.ledger.arrived();
        let stream = self.streams.get(number).context("no such lane")?;
        let history = &stream.lane.history;
        let mut last = history.last().map_or(healed, |last| last.max(healed));
        // The first export of a link has its counts at 0, so that whoever takes differences sees
        // the first error; what there is follows.
        let first = self.ledger.of(stream.lane.pod_name()).exports.first();
        if let Some(first) = first.and_then(|figures| figures.arrived) {
            last = last.max(first);
        }
        Ok(history.connected()
            && last.elapsed().is_ok_and(|quiet| quiet >= settle)
            && newest.reachable == Some(true)
            && told.is_some_and(|told| told >= last + TOLD))
    }

    fn newest(&self, number: usize) -> Result<Figures> {
        let stream = self.streams.get(number).context("no such lane")?;
        Ok(self.ledger.of(stream.lane.pod_name()).newest())
    }
}

/// A connection is confirmed after 250 ms, an export may wait 200 ms.
const SETTLE: Duration = Duration::from_millis(1_000);
const TOLD: Duration = Duration::from_millis(600);
/// Its longest wait between two dials is 20 s, and a dial may take 3 s.
const PATIENCE: Duration = Duration::from_secs(75);
