//! The demo: Knative's real client loses its real server in one way after another. It shows side by
//! side what the agent, the Collector and Knative's own metric notice, and when.

mod operator;
mod table;
mod trouble;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use statlink_tests::{
    peer::{Activator, Traffic},
    process::{Line, Process},
    scenario::{Bed, link, metric},
};

use self::{
    operator::Operator,
    table::Row,
    trouble::{TROUBLES, Trouble},
};

/// Knative's real client loses its real server in one way after another, and a table shows who noticed when
#[derive(Debug, Parser)]
#[command(name = "demo", bin_name = "cargo xtask demo", max_term_width = 100)]
struct Options {
    /// Then show what an operator sees: ten activators, a Prometheus with the rules, every alert
    /// that should fire, and the dashboards as pictures and at a loopback address (takes ten
    /// minutes; needs node and Chromium)
    #[arg(long)]
    dashboard: bool,
    /// The address that serves the dashboards
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:3000",
        requires = "dashboard"
    )]
    listen: SocketAddr,
    /// The directory for the pictures
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "target/demo",
        requires = "dashboard"
    )]
    pictures: PathBuf,
    /// Keep everything running at the end, to look at, until Ctrl-C
    #[arg(long, requires = "dashboard")]
    stay: bool,
}

fn main() -> ExitCode {
    match demo(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("demo: a cause or an alert was not the expected one");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(options: &Options) -> Result<bool> {
    let mut stage = Stage::set(options)?;
    let mut rows = Vec::new();
    for (number, trouble) in TROUBLES.iter().enumerate() {
        println!("\n{}/{}  {}", number + 1, TROUBLES.len(), trouble.what);
        rows.push(stage.play(trouble)?);
    }
    stage.bed.check_invariants()?;
    println!("\n{}", table::render(&rows));
    println!("errors <= checks held in every export that the Collector received");
    let mut right = rows.iter().all(|row| row.cause == row.expected);
    if let Some(operator) = &stage.operator {
        right &= operator.watch(&mut stage.bed, &stage.activator)?;
        if options.stay {
            println!("dashboards at http://{}/; Ctrl-C ends it", operator.page());
            loop {
                thread::park();
            }
        }
    }
    drop(stage);
    println!("cleaned up: processes ended, namespaces removed");
    Ok(right)
}

/// Everything that the demo needs.
struct Stage {
    operator: Option<Operator>,
    events: Process,
    activator: Activator,
    bed: Bed,
}

impl Stage {
    fn set(options: &Options) -> Result<Self> {
        println!("a node in network namespaces, a Collector, Knative's own stats server");
        let (mut bed, prometheus) = if options.dashboard {
            println!("and a Prometheus with the rules");
            let (bed, prometheus) = Bed::with_prometheus()?;
            (bed, Some(prometheus))
        } else {
            (Bed::new()?, None)
        };
        let start = Instant::now();
        let mut agent = bed.agent_options();
        for argument in ["--node-name", "node-1", "--cluster-name", "demo"] {
            agent = agent.arg(argument);
        }
        bed.start_agent_with(&agent)?;
        println!("statlink attached after {}", seconds(start.elapsed()));
        let agent = bed.agent.as_ref().context("the agent was not started")?;
        let events = agent.events()?;
        let second = Traffic::Every(Duration::from_secs(1));
        let mut activator = bed.activator("activator", second)?;
        activator.wait_connected(PATIENCE)?;
        bed.wait_reachable(&activator, 1, PATIENCE)?;
        println!(
            "{} connected to {}, its stats flow; the Collector has reachable 1",
            activator.pod.name,
            bed.target()
        );
        let operator = prometheus
            .map(|prometheus| Operator::hire(&bed, prometheus, options.listen, &options.pictures));
        Ok(Self {
            operator: operator.transpose()?,
            events,
            activator,
            bed,
        })
    }

    /// Injects one trouble, shows who notices it, and heals it.
    fn play(&mut self, trouble: &Trouble) -> Result<Row> {
        if trouble.from_the_start {
            self.play_from_the_start(trouble)
        } else {
            self.play_established(trouble)
        }
    }

    /// A link that was up breaks.
    fn play_established(&mut self, trouble: &Trouble) -> Result<Row> {
        let marks = (self.events.mark(), self.activator.process.mark());
        let exports = self.bed.collector.mark();
        let begin = SystemTime::now();
        let injected = trouble.inject(&mut self.bed, &self.activator)?;

        let pod = self.activator.pod.name.clone();
        let event = self.event(marks.0, "unreachable", &pod)?;
        let cause = cause(&event);
        let agent = known(&event)?.duration_since(begin)?;
        announce("statlink", &cause, Some(agent));
        let (arrived, _) = self.bed.collector.wait_for_after(
            exports,
            metric::REACHABLE,
            &link(&self.activator.pod),
            PATIENCE,
            |point| point.value.number() == 0.0,
        )?;
        let collector = arrived.duration_since(begin)?;
        announce("Collector", "reachable 0", Some(collector));
        let knative = self
            .activator
            .wait_lost_after(marks.1, KNATIVE_PATIENCE)
            .ok()
            .and_then(|line| line.time()?.duration_since(begin).ok());
        announce("Knative", "reachable 0", knative);

        let healed = (self.events.mark(), self.bed.collector.mark());
        trouble.heal(injected, &mut self.bed)?;
        let reachable = |point: &statlink_tests::collector::Point| point.value.number() == 1.0;
        self.bed.collector.wait_for_after(
            // It may have recovered by itself before.
            healed.1.saturating_sub(1),
            metric::REACHABLE,
            &link(&self.activator.pod),
            PATIENCE,
            reachable,
        )?;
        let back = self.event(marks.0, "reachable", &pod)?;
        let outage = back.get("outage")["duration"].as_f64().unwrap_or_default();
        println!("      healed      the outage lasted {outage:.2} s");
        Ok(Row {
            trouble: trouble.name,
            expected: trouble.cause,
            cause,
            agent,
            collector,
            knative,
        })
    }

    /// An activator starts during the trouble: it was never connected.
    fn play_from_the_start(&mut self, trouble: &Trouble) -> Result<Row> {
        let pod = self.bed.network.pod(trouble.name)?;
        let mark = self.events.mark();
        let exports = self.bed.collector.mark();
        let injected = trouble.inject_for(&self.bed, &pod)?;
        let begin = SystemTime::now();
        let mut activator = Activator::start(&pod, self.bed.target(), Traffic::Idle)?;

        let event = self.event(mark, "connect_failed", &pod.name)?;
        let cause = cause(&event);
        let agent = known(&event)?.duration_since(begin)?;
        announce("statlink", &cause, Some(agent));
        let mut attributes = link(&pod).to_vec();
        attributes.extend([("kn.check.kind", "connect"), ("error.type", &cause)]);
        let (arrived, _) = self.bed.collector.wait_for_after(
            exports,
            metric::ERRORS,
            &attributes,
            PATIENCE,
            |point| point.value.number() >= 1.0,
        )?;
        let collector = arrived.duration_since(begin)?;
        announce("Collector", "errors 1", Some(collector));
        self.bed.wait_reachable(&activator, 0, PATIENCE)?;
        println!("      Collector   reachable 0 after the start-up grace of 5 s");
        let mut native = activator.process.lines().into_iter();
        let native = native.find(|line| line.event() == Some("native"));
        let knative = native.and_then(|line| line.time()?.duration_since(begin).ok());
        announce("Knative", "anything", knative);

        trouble.heal(injected, &mut self.bed)?;
        self.bed.wait_reachable(&activator, 1, PATIENCE)?;
        println!("      healed      reachable 1");
        activator.process.kill()?;
        Ok(Row {
            trouble: trouble.name,
            expected: trouble.cause,
            cause,
            agent,
            collector,
            knative,
        })
    }

    /// The next event of this kind about this pod.
    fn event(&mut self, mark: usize, event: &str, pod: &str) -> Result<Line> {
        let what = format!("report {event:?} of {pod}");
        let line = self.events.wait_for_after(mark, &what, PATIENCE, |line| {
            line.event() == Some(event) && line.get("pod") == pod
        })?;
        ensure!(known(&line).is_ok(), "a report without a time: {line:?}");
        Ok(line)
    }
}

fn cause(line: &Line) -> String {
    line.get("cause").as_str().unwrap_or("none").to_owned()
}

/// When the agent knew.
fn known(line: &Line) -> Result<SystemTime> {
    let seconds = line.get("known_at").as_f64().context("no known_at")?;
    Ok(SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(seconds)?)
}

fn announce(who: &str, what: &str, after: Option<Duration>) {
    match after {
        Some(after) => println!("      {who:<10}  {what:<20} after {}", seconds(after)),
        None => println!("      {who:<10}  not noticed"),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

/// Longer than any promise of the agent.
const PATIENCE: Duration = Duration::from_secs(30);
/// Knative's read deadline is 10 s, noticed up to 3 s late.
const KNATIVE_PATIENCE: Duration = Duration::from_secs(16);
