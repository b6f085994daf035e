//! A window on a lane: it begins with a fault or a new pod, and is judged when all is calm.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};

use crate::{
    former::Former,
    judge::{Before, Evidence, Injected, Violation, Window, Wrong},
    lane::Undo,
    run::Run,
    schedule::{End, Planned, What},
    shrink,
    stream::{PATIENCE, SETTLE, State},
};

impl Run<'_> {
    pub(crate) fn begin(&mut self, number: usize, what: What) -> Result<State> {
        self.windows += 1;
        let mut window = Window {
            number: self.windows,
            start: SystemTime::now(),
            faults: Vec::new(),
            before: Before::default(),
            blind: self.collector_back.is_some(),
            stats: self.stream(number)?.lane.sends_stats(),
            way: self.stream(number)?.lane.way(),
            birth: false,
            restarted: None,
            stall: Duration::ZERO,
        };
        match what {
            What::Faults(faults) => {
                self.injected += faults.len() as u64;
                let Self {
                    streams, ledger, ..
                } = self;
                let lane = &streams.get(number).context("no such lane")?.lane;
                let reported = ledger.of(lane.pod_name());
                window.before = Before {
                    figures: reported.newest(),
                    kernel: lane.kernel()?,
                    upgrades: lane.upgrades(),
                    history: lane.history.mark(),
                    events: reported.events.len(),
                    exports: reported.exports.len(),
                };
                self.inject(number, window, Instant::now(), faults, Vec::new())
            }
            What::Birth { end, faults } => {
                self.injected += faults.len() as u64;
                let before = self.newest(number)?;
                let Self {
                    strangers, streams, ..
                } = self;
                let lane = &streams.get(number).context("no such lane")?.lane;
                strangers.leave_alone(lane.pod_name());
                let Self {
                    streams,
                    site,
                    former,
                    ..
                } = self;
                let lane = &mut streams.get_mut(number).context("no such lane")?.lane;
                let departed = lane.depart(site, end)?;
                let server = lane.pods().1.clone();
                former.push(Former::new(departed, server, end, before, number));
                window.birth = true;
                window.start = SystemTime::now();
                window.before.upgrades = lane.upgrades();
                let state = self.inject(number, window, Instant::now(), faults, Vec::new())?;
                let Self { streams, site, .. } = self;
                let lane = &mut streams.get_mut(number).context("no such lane")?.lane;
                lane.arrive(site)?;
                Ok(state)
            }
        }
    }

    /// Injects and heals what is due.
    pub(crate) fn inject(
        &mut self,
        number: usize,
        mut window: Window,
        begun: Instant,
        mut pending: Vec<Planned>,
        active: Vec<(Instant, usize, Undo)>,
    ) -> Result<State> {
        window.blind |= self.collector_back.is_some();
        let Self {
            streams,
            former,
            site,
            ..
        } = self;
        let lane = &mut streams.get_mut(number).context("no such lane")?.lane;
        lane.go_on_crashing(site)?;
        let mut still = Vec::new();
        for (until, index, undo) in active {
            if Instant::now() < until {
                still.push((until, index, undo));
                continue;
            }
            lane.heal(site, undo)?;
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
                .inject(site, planned.kind)
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

    /// Waits until all is calm, then judges the window.
    pub(crate) fn settle(&mut self, number: usize, mut window: Window) -> Result<State> {
        window.blind |= self.collector_back.is_some();
        let healed = window.healed();
        let settle = SETTLE + window.aftermath();
        let calm = self.is_calm(number, healed, settle)?;
        let late = healed.elapsed().unwrap_or_default() > PATIENCE;
        if !calm && !late {
            return Ok(State::Settling { window });
        }
        window.stall = self.stalls.longest_since(window.start);
        let after = self.newest(number)?;
        let stream = self.streams.get(number).context("no such lane")?;
        let lane = &stream.lane;
        let evidence = Evidence {
            seen: lane.history.since(window.before.history),
            reported: self.ledger.of(lane.pod_name()),
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
            // A new activator, so that the failure is counted once.
            let (end, faults) = (End::Killed, Vec::new());
            return self.begin(number, What::Birth { end, faults });
        }
        self.stream(number)?.calm = Some(after);
        self.rest(number)
    }
}
