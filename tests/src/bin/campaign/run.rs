//! The driver: one thread, and each lane a small state machine. What concerns one lane is in
//! [`crate::stream`].

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use serde_json::Value;
use statlink_tests::{process::Process, scenario::Bed};

use crate::{
    former::Former,
    judge::{Violation, Wrong},
    lane::Lane,
    options::Plan,
    reported::{Ledger, own_log_lines},
    stream::{State, Stream},
    table::Tally,
};

/// The whole run.
pub(crate) struct Run<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) streams: Vec<Stream>,
    events: Process,
    pub(crate) ledger: Ledger,
    pub(crate) tally: Tally,
    pub(crate) windows: u64,
    pub(crate) injected: u64,
    /// Activators that were ended.
    pub(crate) former: Vec<Former>,
    /// Draws what concerns all lanes.
    rng: Rng,
    /// When the Collector comes back, while it is away.
    pub(crate) collector_back: Option<Instant>,
    next_collector_outage: u64,
    next_restart: u64,
    /// Whether the agent is restarted once all lanes are calm.
    parking: bool,
    pub(crate) directory: PathBuf,
    pub(crate) steps: Vec<Value>,
    pub(crate) start: Instant,
    pub(crate) collector_outages: u64,
    pub(crate) restarts: u64,
    /// Of agents that are gone.
    pub(crate) log_lines: Vec<String>,
    // The network goes last.
    pub(crate) bed: Bed,
}

impl<'a> Run<'a> {
    pub(crate) fn set(plan: &'a Plan, directory: PathBuf) -> Result<Self> {
        let mut bed = Bed::without_autoscaler()?;
        let options = bed.agent_options().arg("--export-interval").arg("2s");
        bed.start_agent_with(&options)?;
        let events = bed.agent.as_ref().context("no agent")?.events()?;
        let mut streams = Vec::new();
        for number in 0..plan.lanes {
            let lane = Lane::new(&bed, number)?;
            println!("lane {number}: {}", lane.describe());
            streams.push(Stream::new(lane, plan, number));
        }
        let mut rng = Rng::with_seed(plan.seed);
        Ok(Self {
            plan,
            streams,
            events,
            ledger: Ledger::default(),
            tally: Tally::default(),
            windows: 0,
            injected: 0,
            former: Vec::new(),
            next_collector_outage: rng.u64(10..40),
            next_restart: rng.u64(20..80),
            parking: false,
            rng,
            collector_back: None,
            directory,
            steps: Vec::new(),
            start: Instant::now(),
            collector_outages: 0,
            restarts: 0,
            log_lines: Vec::new(),
            bed,
        })
    }

    /// Runs it; whether nothing was wrong.
    pub(crate) fn run(mut self) -> Result<bool> {
        let mut progress = Instant::now();
        let mut table = Instant::now();
        loop {
            self.read()?;
            let over = |limit| self.start.elapsed() >= limit;
            let enough = self.injected >= self.plan.faults || self.plan.limit.is_some_and(over);
            for number in 0..self.streams.len() {
                self.step(number, enough || self.parking)?;
            }
            if !enough {
                self.disturb()?;
            }
            self.collector()?;
            let parked = |stream: &Stream| matches!(stream.state, State::Parked);
            if self.streams.iter().all(parked) && self.collector_back.is_none() {
                if enough {
                    break;
                }
                self.parking = false;
                self.restart_agent()?;
            }
            if progress.elapsed() >= PROGRESS {
                progress = Instant::now();
                self.progress();
            }
            if table.elapsed() >= TABLE {
                table = Instant::now();
                println!("\n{}", self.tally.render());
            }
            thread::sleep(TICK);
        }
        self.close()
    }

    pub(crate) fn add_wrong(&mut self, wrong: Wrong, text: String) {
        println!("WRONG  {}: {text}", wrong.name());
        self.tally.violate(&Violation { wrong, text });
    }

    /// Reads what activators, agent and Collector reported since.
    pub(crate) fn read(&mut self) -> Result<()> {
        for stream in &mut self.streams {
            stream.lane.look();
        }
        self.ledger.read_events(&self.events);
        self.ledger.read_exports(self.bed.collector.take());
        for text in std::mem::take(&mut self.ledger.broken) {
            self.add_wrong(Wrong::Promise, text);
        }
        self.judge_former()
    }

    /// Faults of the agent and the Collector, not of links.
    fn disturb(&mut self) -> Result<()> {
        if self.injected >= self.next_restart && !self.parking && self.collector_back.is_none() {
            self.next_restart = self.injected + self.rng.u64(60..140);
            if self.rng.bool() {
                self.parking = true;
            } else {
                self.restart_agent()?;
            }
        }
        if self.injected >= self.next_collector_outage && self.collector_back.is_none() {
            let length = Duration::from_millis(self.rng.u64(1_000..8_000));
            self.next_collector_outage = self.injected + self.rng.u64(40..90);
            self.bed.collector.stop()?;
            self.collector_back = Some(Instant::now() + length);
            self.collector_outages += 1;
            println!("       the Collector is away for {length:?}");
        }
        Ok(())
    }

    fn collector(&mut self) -> Result<()> {
        if self
            .collector_back
            .is_some_and(|back| Instant::now() >= back)
        {
            self.bed.collector.restart()?;
            self.collector_back = None;
            println!("       the Collector is back");
        }
        Ok(())
    }

    /// Restarts the agent, whatever the lanes are doing.
    fn restart_agent(&mut self) -> Result<()> {
        self.restarts += 1;
        let mut agent = self.bed.agent.take().context("no agent")?;
        self.log_lines.extend(own_log_lines(&agent.process));
        if self.rng.bool() {
            println!("       the agent is killed and started again");
            agent.process.kill()?;
            drop(agent);
        } else {
            println!("       the agent is stopped and started again");
            let status = agent.stop()?;
            ensure!(status.success(), "the agent ended with {status}");
        }
        // The old agent's last exports are not the new one's.
        thread::sleep(Duration::from_millis(300));
        drop(self.bed.collector.take());
        self.ledger.new_agent();
        self.former.clear();
        let started = SystemTime::now();
        let options = self.bed.agent_options().arg("--export-interval").arg("2s");
        self.bed.start_agent_with(&options)?;
        let agent = self.bed.agent.as_ref().context("no agent")?;
        self.events = agent.events()?;
        let restarted = (started, SystemTime::now());
        for stream in &mut self.streams {
            stream.restarted(restarted);
        }
        Ok(())
    }

    fn progress(&self) {
        let states: String = self.streams.iter().map(Stream::symbol).collect();
        println!(
            "{:>7.1} s  {} faults injected, {} judged, {} wrong  [{states}]",
            self.start.elapsed().as_secs_f64(),
            self.injected,
            self.tally.faults(),
            self.tally.violated()
        );
    }
}

const TICK: Duration = Duration::from_millis(2);
const PROGRESS: Duration = Duration::from_secs(10);
const TABLE: Duration = Duration::from_secs(300);
