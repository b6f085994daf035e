//! How the agent's cost grows with what is on its node: links, processes, open files, and what strangers do on the
//! port.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, ValueEnum};
use rustix::net::sockopt::set_socket_linger;
use serde::{Deserialize, Serialize};
use statlink_tests::{
    deploy,
    peer::{Activator, PORT, Traffic},
    process::{Line as Printed, Process},
    scenario::Bed,
};

use crate::{
    PATIENCE, SETTLE,
    figures::number,
    floods::allow_files,
    machine::Machine,
    marks, observed,
    plot::{Line, Plot},
};

/// How the agent's cost grows with what is on its node
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only with these
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<With>,
    /// How long each size is watched, in seconds; `/proc` is walked every 30
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// No size above it
    #[arg(long, default_value_t = u32::MAX)]
    most: u32,
    /// Keep what was measured: in tests/bench/growth.json and in deploy/docs/sizing.md
    #[arg(long)]
    save: bool,
    /// Measure nothing: write the page anew from what was kept
    #[arg(long)]
    page: bool,
}

/// What there is more and more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum With {
    /// Activators with a healthy link each
    Links,
    /// Other processes
    Processes,
    /// Open files of other processes
    Files,
    /// Connections a second of others on the watched port
    Strangers,
}

impl With {
    const fn sizes(self) -> &'static [u32] {
        match self {
            Self::Links => &[1, 10, 50, 200],
            Self::Processes => &[100, 1_000, 3_000, 10_000],
            Self::Files => &[1_000, 10_000, 100_000],
            Self::Strangers => &[100, 1_000, 10_000],
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Processes => "processes",
            Self::Files => "open files",
            Self::Strangers => "strangers' connections a second",
        }
    }
}

/// What it took at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    with: With,
    size: u32,
    machine: String,
    /// Percents of a core, at rest.
    cpu: f64,
    /// Memory of the agent's own, and with the pages of its executable.
    anonymous_mb: f64,
    resident_mb: f64,
    /// CPU time of an agent's start, and of its first seconds.
    start_cpu_ms: Option<f64>,
    /// From the start of one more activator until its link is known, and the agent's CPU time in that.
    found_ms: Option<f64>,
    found_cpu_ms: Option<f64>,
    /// From the first connection lost to a common cause until the last link's loss is known.
    told_ms: Option<f64>,
}

/// What runs have kept.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Saved {
    points: Vec<Point>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut saved = Saved::read()?;
    if options.page {
        return saved.write();
    }
    let machine = Machine::now().line();
    eprintln!("{machine}");
    allow_files()?;
    let wanted = With::value_variants().iter();
    let wanted = wanted.filter(|with| options.only.is_empty() || options.only.contains(with));
    let mut points = Vec::new();
    for with in wanted {
        let all = with.sizes().iter().copied();
        let sizes: Vec<u32> = all.filter(|size| *size <= options.most).collect();
        let length = Duration::from_secs(options.seconds);
        let node = Node {
            with: *with,
            length,
            machine: &machine,
        };
        let grown = match with {
            With::Links => node.links(&sizes),
            With::Processes => node.processes(&sizes),
            With::Files => node.files(&sizes),
            With::Strangers => node.strangers(&sizes),
        };
        points.extend(grown.with_context(|| with.title())?);
    }
    let of_run = Saved { points };
    println!("\n{}\n{}", of_run.table(), of_run.exponents());
    if options.save {
        saved.put(of_run.points);
        saved.write()?;
    }
    Ok(())
}

/// A node that gets fuller.
struct Node<'a> {
    with: With,
    length: Duration,
    machine: &'a str,
}

impl Node<'_> {
    fn links(&self, sizes: &[u32]) -> Result<Vec<Point>> {
        let mut bed = Bed::new()?;
        // Without the API 200 processes have links at most; the autoscaler would be one of them.
        bed.start_agent_with(&crate::without_link(bed.agent_options()))?;
        let mut events = bed.agent.as_ref().context("no agent")?.events()?;
        let mut activators: Vec<Activator> = Vec::new();
        let mut points = Vec::new();
        for size in sizes {
            let more = activators.len()..usize::try_from(*size)?;
            for number in more {
                activators.push(bed.activator(&format!("a{number}"), Traffic::Idle)?);
            }
            for activator in &activators {
                bed.wait_reachable(activator, 1, PATIENCE)?;
            }
            let mut point = self.at_rest(&bed, *size)?;
            let mark = events.mark();
            bed.autoscaler()?.process.kill()?;
            let (mut first, mut last) = (f64::MAX, f64::MIN);
            for activator in &activators {
                let line = event(&mut events, mark, activator, "unreachable")?;
                first = first.min(seconds(&line, "at")?);
                last = last.max(seconds(&line, "known_at")?);
            }
            point.told_ms = Some((last - first) * 1e3);
            bed.start_autoscaler()?;
            for activator in &activators {
                event(&mut events, mark, activator, "reachable")?;
            }
            points.push(told(point));
        }
        Ok(points)
    }

    fn processes(&self, sizes: &[u32]) -> Result<Vec<Point>> {
        let mut bed = Bed::new()?;
        let mut crowd = Crowd::default();
        let mut points = Vec::new();
        for size in sizes {
            crowd.grow_to(*size)?;
            points.push(told(self.of_start(&mut bed, *size)?));
        }
        Ok(points)
    }

    fn files(&self, sizes: &[u32]) -> Result<Vec<Point>> {
        let mut bed = Bed::new()?;
        let mut crowd = Crowd::default();
        let mut points = Vec::new();
        for size in sizes {
            crowd.open(*size)?;
            points.push(told(self.of_start(&mut bed, *size)?));
        }
        Ok(points)
    }

    fn strangers(&self, sizes: &[u32]) -> Result<Vec<Point>> {
        let mut bed = Bed::new()?;
        bed.start_agent()?;
        let activator = bed.activator("beside", Traffic::Idle)?;
        bed.wait_reachable(&activator, 1, PATIENCE)?;
        let pod = bed.network.pod("strangers")?;
        let mut points = Vec::new();
        for size in sizes {
            let is_over = AtomicBool::new(false);
            let point = thread::scope(|scope| {
                let dialling = scope.spawn(|| pod.namespace.run(|| dial(*size, &is_over)));
                let point = self.at_rest(&bed, *size);
                is_over.store(true, Ordering::Relaxed);
                dialling
                    .join()
                    .map_err(|_| anyhow!("the strangers panicked"))???;
                point
            })?;
            points.push(told(point));
        }
        Ok(points)
    }

    /// A new agent beside one activator, at rest, and what one more activator takes.
    fn of_start(&self, bed: &mut Bed, size: u32) -> Result<Point> {
        let activator = bed.activator(&format!("first{size}"), Traffic::Idle)?;
        bed.start_agent()?;
        bed.wait_reachable(&activator, 1, PATIENCE)?;
        thread::sleep(SETTLE);
        let start_cpu = observed(bed)?.cpu()?;
        let mut point = self.at_rest(bed, size)?;
        point.start_cpu_ms = Some(start_cpu.as_secs_f64() * 1e3);
        let mut events = bed.agent.as_ref().context("no agent")?.events()?;
        let pod = bed.network.pod(&format!("second{size}"))?;
        let (mark, cpu) = (events.mark(), observed(bed)?.cpu()?);
        let start = SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64();
        let second = Activator::start(&pod, bed.target(), Traffic::Idle)?;
        let line = event(&mut events, mark, &second, "discovered")?;
        point.found_ms = Some((seconds(&line, "known_at")? - start) * 1e3);
        event(&mut events, mark, &second, "reachable")?;
        let cpu = observed(bed)?.cpu()? - cpu;
        point.found_cpu_ms = Some(cpu.as_secs_f64() * 1e3);
        bed.agent = None;
        Ok(point)
    }

    fn at_rest(&self, bed: &Bed, size: u32) -> Result<Point> {
        thread::sleep(SETTLE);
        let agent = observed(bed)?;
        let (cpu, start) = (agent.cpu()?, Instant::now());
        thread::sleep(self.length);
        let share = (agent.cpu()? - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
        Ok(Point {
            with: self.with,
            size,
            machine: self.machine.to_owned(),
            cpu: share * 100.0,
            anonymous_mb: agent.anonymous_mb()?,
            resident_mb: agent.resident_mb()?,
            start_cpu_ms: None,
            found_ms: None,
            found_cpu_ms: None,
            told_ms: None,
        })
    }
}

impl Saved {
    /// What is committed; nothing where nothing is.
    fn read() -> Result<Self> {
        let path = path();
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no such run", path.display()))
    }

    /// A run's points take the place of all former ones of the same kind.
    fn put(&mut self, points: Vec<Point>) {
        self.points
            .retain(|old| points.iter().all(|new| new.with != old.with));
        self.points.extend(points);
        self.points.sort_by_key(|point| (point.with, point.size));
    }

    fn write(&self) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        for (path, text) in [
            (path(), json),
            (page(), self.page()?),
            (picture(), self.plot().svg()?),
        ] {
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    fn page(&self) -> Result<String> {
        let path = page();
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut machines: Vec<&str> = self.points.iter().map(|p| p.machine.as_str()).collect();
        machines.dedup();
        let measured = format!("\nMeasured on: {}.\n\n", machines.join("; "));
        if self.points.is_empty() {
            return marks::replaced(&text, "growth", "Not measured yet.\n");
        }
        let shown = format!(
            "{}\n{PICTURE}\n{}{measured}",
            self.table(),
            self.exponents()
        );
        marks::replaced(&text, "growth", &shown)
    }

    fn table(&self) -> String {
        let ms = |value: Option<f64>| value.map_or_else(String::new, |ms| format!("{ms:.0} ms"));
        let mut text = String::from(
            "| with | how many | CPU at rest, of a core | memory of its own | resident \
             | CPU of a start | one more is known after | for a CPU time of | a common loss is told within |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for point in &self.points {
            let line = format!(
                "| {} | {} | {} % | {:.1} MB | {:.1} MB | {} | {} | {} | {} |\n",
                point.with.title(),
                point.size,
                number(point.cpu),
                point.anonymous_mb,
                point.resident_mb,
                ms(point.start_cpu_ms),
                ms(point.found_ms),
                ms(point.found_cpu_ms),
                ms(point.told_ms),
            );
            text.push_str(&line);
        }
        text
    }

    /// With which power each grows.
    fn exponents(&self) -> String {
        let lines = self.plot().lines.into_iter();
        let grows = lines.filter_map(|line| Some((line.exponent()?, line.name)));
        grows
            .map(|(exponent, name)| {
                format!("- {name}: as their number to the power of {exponent:.2}\n")
            })
            .collect()
    }

    fn plot(&self) -> Plot {
        let of = |with: With, what: fn(&Point) -> Option<f64>| {
            let points = self.points.iter().filter(|point| point.with == with);
            points
                .filter_map(|point| Some((f64::from(point.size), what(point)?)))
                .collect::<Vec<_>>()
        };
        let cpu = With::value_variants().iter().map(|with| Line {
            name: format!("CPU at rest, {}", with.title()),
            points: of(*with, |point| Some(point.cpu)),
        });
        Plot {
            x: "how many",
            y: "% of a core",
            lines: cpu.filter(|line| !line.points.is_empty()).collect(),
        }
    }
}

/// Processes that wait, and end with it.
#[derive(Default)]
struct Crowd {
    processes: Vec<Child>,
    /// How many files they have open, beside their own few.
    files: u32,
}

impl Crowd {
    fn grow_to(&mut self, size: u32) -> Result<()> {
        while self.processes.len() < usize::try_from(size)? {
            self.add(0)?;
        }
        Ok(())
    }

    fn open(&mut self, files: u32) -> Result<()> {
        while self.files < files {
            let more = FILES_OF_ONE.min(files - self.files);
            self.add(more)?;
            self.files += more;
        }
        Ok(())
    }

    /// One process more, with so many files.
    fn add(&mut self, files: u32) -> Result<()> {
        let mut sleep = Command::new("/bin/sleep");
        sleep
            .arg("100000")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let open = move || {
            for _ in 0..files {
                // It is to stay open in the program.
                let flags = rustix::fs::OFlags::RDONLY;
                let file = rustix::fs::open(c"/dev/null", flags, rustix::fs::Mode::empty())?;
                std::mem::forget(file);
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls; it neither allocates nor locks.
        unsafe { sleep.pre_exec(open) };
        self.processes
            .push(sleep.spawn().context("start one process more")?);
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // It may have ended by itself.
            let _ = process.kill();
        }
        for process in &mut self.processes {
            let _ = process.wait();
        }
    }
}

/// Connects to itself on the watched port, so often a second.
fn dial(rate: u32, is_over: &AtomicBool) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
    let to: SocketAddr = (Ipv4Addr::LOCALHOST, PORT).into();
    let start = Instant::now();
    let mut dials = 0;
    while !is_over.load(Ordering::Relaxed) {
        let due = start + Duration::from_secs(1) * dials / rate;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let client = TcpStream::connect(to)?;
        let _server = listener.accept()?;
        // RST instead of FIN: TIME_WAIT would use up the ports.
        set_socket_linger(&client, Some(Duration::ZERO))?;
        dials += 1;
    }
    Ok(())
}

fn event(events: &mut Process, mark: usize, of: &Activator, what: &str) -> Result<Printed> {
    let wanted = format!("report {what:?} of {}", of.pod.name);
    events.wait_for_after(mark, &wanted, PATIENCE, |line| {
        line.event() == Some(what) && line.get("pod") == of.pod.name.as_str()
    })
}

fn seconds(line: &Printed, field: &str) -> Result<f64> {
    let value = line.get(field).as_f64();
    value.with_context(|| format!("no {field}: {}", line.text))
}

fn told(point: Point) -> Point {
    eprintln!("    {}, {}: {point:?}", point.size, point.with.title());
    point
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bench/growth.json")
}

fn page() -> PathBuf {
    deploy::directory().join("docs/sizing.md")
}

fn picture() -> PathBuf {
    deploy::directory().join("docs/sizing-node.svg")
}

const PICTURE: &str = "![CPU of the agent against what is on its node](sizing-node.svg)

The exponent of each line in the picture, by the nearest straight line:
";
/// A process may have 20,000 and more, by the limits of most systems.
const FILES_OF_ONE: u32 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn point(with: With, size: u32, cpu: f64) -> Point {
        Point {
            with,
            size,
            machine: "a machine".to_owned(),
            cpu,
            anonymous_mb: 1.0,
            resident_mb: 2.0,
            start_cpu_ms: None,
            found_ms: None,
            found_cpu_ms: None,
            told_ms: Some(4.0),
        }
    }

    #[test]
    fn a_later_run_takes_the_place_of_a_kind_as_a_whole() {
        let mut saved = Saved::default();
        saved.put(vec![
            point(With::Files, 10, 1.0),
            point(With::Links, 1, 1.0),
        ]);
        saved.put(vec![point(With::Links, 2, 2.0)]);
        let kept: Vec<_> = saved.points.iter().map(|p| (p.with, p.size)).collect();
        assert_eq!(kept, [(With::Links, 2), (With::Files, 10)]);
    }

    #[test]
    fn growth_is_told_with_its_exponent() {
        let mut saved = Saved::default();
        saved.put(vec![
            point(With::Links, 1, 0.1),
            point(With::Links, 100, 1.0),
        ]);
        assert_eq!(
            saved.exponents(),
            "- CPU at rest, links: as their number to the power of 0.50\n"
        );
        assert!(
            saved
                .table()
                .contains("| links | 100 | 1 % | 1.0 MB | 2.0 MB |  |  |  | 4 ms |")
        );
    }

    #[test]
    fn the_page_and_the_picture_are_of_what_was_kept() {
        let saved = Saved::read().unwrap();
        assert_eq!(saved.page().unwrap(), fs::read_to_string(page()).unwrap());
        if !saved.points.is_empty() {
            let shown = fs::read_to_string(picture()).unwrap();
            assert_eq!(saved.plot().svg().unwrap(), shown);
        }
    }
}
