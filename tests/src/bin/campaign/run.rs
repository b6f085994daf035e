//! The driver: one thread, every lane a small state machine, time by the clock. What concerns one
//! lane is in [`crate::stream`].

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use serde_json::{Value, json};
use statlink_tests::{peer::Activator, process::Process, scenario::Bed};

use crate::{
    catalogue::{Kind, Resource},
    figures::Figures,
    judge::{Violation, Wrong},
    lane::Lane,
    options::Plan,
    stream::{State, Stream},
    table::Tally,
    told::{EXPORTS_A_SECOND, Ledger},
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
    /// Activators that were told to end.
    pub(crate) former: Vec<Former>,
    /// Draws what concerns all lanes.
    rng: Rng,
    /// When the Collector comes back, while it is away.
    pub(crate) collector_back: Option<Instant>,
    next_collector_outage: u64,
    next_restart: u64,
    /// Whether the agent is to be started anew once all is calm.
    parking: bool,
    pub(crate) directory: PathBuf,
    pub(crate) steps: Vec<Value>,
    pub(crate) start: Instant,
    collector_outages: u64,
    restarts: u64,
    log_lines: u64,
    // The network goes last.
    pub(crate) bed: Bed,
}

/// An activator that was told to end.
pub(crate) struct Former {
    activator: Activator,
    /// What was known of it: nothing may be added, for this end is expected.
    before: Figures,
    ended: Option<SystemTime>,
    /// Its autoscaler is the next one's: a fault of that was this one's, too.
    lane: usize,
    disturbed: bool,
}

impl Former {
    pub(crate) const fn new(activator: Activator, before: Figures, lane: usize) -> Self {
        Self {
            activator,
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
            log_lines: 0,
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

    pub(crate) fn tell(&mut self, wrong: Wrong, text: String) {
        println!("WRONG  {}: {text}", wrong.name());
        self.tally.violate(&Violation { wrong, text });
    }

    fn read(&mut self) -> Result<()> {
        for stream in &mut self.streams {
            stream.lane.look();
        }
        self.ledger.read_events(&self.events);
        self.ledger.read_exports(self.bed.collector.take());
        for text in std::mem::take(&mut self.ledger.broken) {
            self.tell(Wrong::Promise, text);
        }
        self.bury()
    }

    /// Those that ended are not told of any more, and their end was no error.
    fn bury(&mut self) -> Result<()> {
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

    /// What befalls the agent, not the links.
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

    /// The agent ends and another comes, whatever is under way.
    fn restart_agent(&mut self) -> Result<()> {
        self.restarts += 1;
        let mut agent = self.bed.agent.take().context("no agent")?;
        self.log_lines += agent.process.mark() as u64;
        if self.rng.bool() {
            println!("       the agent is killed and started again");
            agent.process.kill()?;
            drop(agent);
        } else {
            println!("       the agent is stopped and started again");
            let status = agent.stop()?;
            ensure!(status.success(), "the agent ended with {status}");
        }
        // What the former still sent is not the new one's.
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

    fn close(mut self) -> Result<bool> {
        self.read()?;
        for text in self.bed.collector.undecodable() {
            self.tell(Wrong::Promise, format!("undecodable: {text}"));
        }
        let most = self.ledger.busiest_second;
        if most > EXPORTS_A_SECOND {
            self.tell(Wrong::Promise, format!("{most} exports in one second"));
        }
        let agent = self.bed.agent.as_ref().context("no agent")?;
        let lines = self.log_lines + agent.process.mark() as u64;
        let log: Vec<_> = agent.process.lines().into_iter().map(|l| l.text).collect();
        let file = self.directory.join("agent.log");
        std::fs::create_dir_all(&self.directory)?;
        std::fs::write(&file, log.join("\n"))?;
        let (onsets, seconds) = (self.ledger.onsets, self.start.elapsed().as_secs_f64());
        // Two for each outage; once a minute and link what is summed up. Of each link that an agent
        // hears of, that it is there, reachable and ended; of each agent its start and end; of
        // each outage of the Collector its start and end.
        let (lanes, agents) = (self.plan.lanes as u64, self.restarts + 1);
        let minutes = self.start.elapsed().as_secs() / 60 + 1;
        let others = minutes * lanes
            + 3 * (agents * lanes + self.tally.births())
            + LINES_OF_AN_AGENT * agents
            + 2 * self.collector_outages;
        if lines > 2 * onsets + others {
            self.tell(
                Wrong::Promise,
                format!("{lines} log lines for {onsets} outages"),
            );
        }
        println!("\n{}", self.tally.render());
        println!(
            "seed {}, {} lanes, {seconds:.0} s; {} exports, at most {most} a second; {lines} log \
             lines for {onsets} outages; {} agents, {} outages of the Collector",
            self.plan.seed,
            self.plan.lanes,
            self.ledger.exports(),
            self.restarts + 1,
            self.collector_outages
        );
        if let Some(file) = &self.plan.json {
            let mut report = self.tally.json();
            if let Some(report) = report.as_object_mut() {
                report.extend([
                    ("seed".to_owned(), json!(self.plan.seed)),
                    ("lanes".to_owned(), json!(self.plan.lanes)),
                    ("seconds".to_owned(), json!(seconds)),
                    ("exports".to_owned(), json!(self.ledger.exports())),
                    ("most_exports_in_a_second".to_owned(), json!(most)),
                    ("log_lines".to_owned(), json!(lines)),
                    ("outages".to_owned(), json!(onsets)),
                    ("agents".to_owned(), json!(self.restarts + 1)),
                    (
                        "collector_outages".to_owned(),
                        json!(self.collector_outages),
                    ),
                    ("schedule".to_owned(), Value::Array(self.steps)),
                ]);
            }
            std::fs::write(file, format!("{report:#}\n"))
                .with_context(|| format!("write {}", file.display()))?;
        }
        Ok(self.tally.violated() == 0)
    }
}

const TICK: Duration = Duration::from_millis(2);
const PROGRESS: Duration = Duration::from_secs(10);
const TABLE: Duration = Duration::from_secs(300);
/// An export that was under way when an activator ended, and the time to hear of its end.
const UNDER_WAY: Duration = Duration::from_secs(1);
const REMEMBERED: Duration = Duration::from_secs(10);
const LINES_OF_AN_AGENT: u64 = 10;
