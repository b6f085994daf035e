//! The driver: one thread, with a small state machine for each lane. [`crate::stream`] has the part
//! of one lane.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use serde_json::Value;
use statlink_tests::process::Process;

use crate::{
    former::Former,
    judge::{Violation, Wrong},
    lane::Lane,
    options::Plan,
    reported::{Ledger, own_log_lines},
    site::Site,
    stalls::Stalls,
    strangers::Strangers,
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
    /// Activators that have ended.
    pub(crate) former: Vec<Former>,
    /// Draws random choices for all lanes.
    rng: Rng,
    /// When the Collector comes back, while it is away.
    pub(crate) collector_back: Option<Instant>,
    next_collector_outage: u64,
    /// When the Kubernetes API comes back, while it is away.
    pub(crate) api_back: Option<Instant>,
    next_api_outage: u64,
    next_restart: u64,
    next_dial: Instant,
    /// Whether the agent will be restarted once all lanes are calm.
    parking: bool,
    pub(crate) directory: PathBuf,
    pub(crate) steps: Vec<Value>,
    pub(crate) start: Instant,
    pub(crate) collector_outages: u64,
    pub(crate) api_outages: u64,
    pub(crate) restarts: u64,
    /// The log of former agents.
    pub(crate) log_lines: Vec<String>,
    pub(crate) strangers: Strangers,
    pub(crate) stalls: Stalls,
    // The network is dropped last.
    pub(crate) site: Site,
}

impl<'a> Run<'a> {
    pub(crate) fn set(plan: &'a Plan, directory: PathBuf) -> Result<Self> {
        let mut site = Site::new()?;
        let strangers = Strangers::start(&site, plan.seed)?;
        let events = site.start_agent()?;
        strangers.probes.agent_changes();
        let mut streams = Vec::new();
        for number in 0..plan.lanes {
            let lane = Lane::new(&mut site, number)?;
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
            api_back: None,
            next_api_outage: rng.u64(10..40),
            next_dial: Instant::now(),
            next_restart: rng.u64(20..80),
            parking: false,
            rng,
            collector_back: None,
            directory,
            steps: Vec::new(),
            start: Instant::now(),
            collector_outages: 0,
            api_outages: 0,
            restarts: 0,
            log_lines: Vec::new(),
            strangers,
            stalls: Stalls::measure()?,
            site,
        })
    }

    /// Runs it; returns whether nothing was wrong.
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
            self.heal_parts()?;
            self.disturb_with_strangers()?;
            let parked = |stream: &Stream| matches!(stream.state, State::Parked);
            let is_whole = self.collector_back.is_none() && self.api_back.is_none();
            if self.streams.iter().all(parked) && is_whole {
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

    /// Reads new reports of activators, agent and Collector.
    pub(crate) fn read(&mut self) -> Result<()> {
        for stream in &mut self.streams {
            stream.lane.look();
        }
        self.ledger.read_events(&self.events);
        self.ledger.read_exports(self.site.bed.collector.take());
        let broken = std::mem::take(&mut self.ledger.broken);
        for text in broken.into_iter().chain(self.strangers.probes.failed()) {
            self.add_wrong(Wrong::Promise, text);
        }
        self.judge_former()
    }

    /// Faults of the agent, the Collector and the API, not of links.
    fn disturb(&mut self) -> Result<()> {
        let is_whole = self.collector_back.is_none() && self.api_back.is_none();
        if self.injected >= self.next_restart && !self.parking && is_whole {
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
            self.site.bed.collector.stop()?;
            self.collector_back = Some(Instant::now() + length);
            self.collector_outages += 1;
            println!("       the Collector is away for {length:?}");
        }
        let known = self.site.is_followed() && !self.streams.iter().any(Stream::is_born);
        if self.injected >= self.next_api_outage && self.api_back.is_none() && known {
            let length = Duration::from_millis(self.rng.u64(1_000..20_000));
            self.next_api_outage = self.injected + self.rng.u64(40..90);
            self.site.api.leave();
            self.api_back = Some(Instant::now() + length);
            self.api_outages += 1;
            println!("       the Kubernetes API is away for {length:?}");
        }
        Ok(())
    }

    /// An engineer's curl in one activator's pod after another, and impostors of all.
    fn disturb_with_strangers(&mut self) -> Result<()> {
        let pods: Vec<_> = self.streams.iter().map(|stream| &stream.lane.pod).collect();
        self.strangers.look(&pods)?;
        if Instant::now() < self.next_dial {
            return Ok(());
        }
        self.next_dial = Instant::now() + DIALS;
        let number = self.rng.usize(..self.streams.len());
        let deaf = self.strangers.deaf.v4;
        self.stream(number)?.lane.dial_as_a_stranger(deaf)
    }

    fn heal_parts(&mut self) -> Result<()> {
        if self.api_back.is_some_and(|back| Instant::now() >= back) {
            self.site.api.come_back();
            self.api_back = None;
            println!("       the Kubernetes API is back");
        }
        if self
            .collector_back
            .is_some_and(|back| Instant::now() >= back)
        {
            self.site.bed.collector.restart()?;
            self.collector_back = None;
            println!("       the Collector is back");
        }
        Ok(())
    }

    /// Restarts the agent, whatever the lanes are doing.
    fn restart_agent(&mut self) -> Result<()> {
        self.restarts += 1;
        self.strangers.probes.agent_changes();
        let mut agent = self.site.bed.agent.take().context("no agent")?;
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
        self.former.clear();
        let started = SystemTime::now();
        self.ledger.new_agent(started);
        self.events = self.site.start_agent()?;
        self.strangers.probes.agent_changes();
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
/// How often a stranger dials: once a second in each of ten lanes.
const DIALS: Duration = Duration::from_millis(100);
const PROGRESS: Duration = Duration::from_secs(10);
const TABLE: Duration = Duration::from_secs(300);
