//! The cost of each program of the agent: in instructions, which do not depend on the machine's
//! load, and by the kernel's own account of their time.
//!
//! The kernel wakes a reader only if it has read everything before (`bpf_ringbuf_commit()`,
//! `kernel/bpf/ringbuf.c`). This separates the cost of a watched event from that of its
//! notification: while the agent is frozen, its programs do all their work and wake nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::{
    programs::{ProgramInfo, loaded_programs},
    sys::{Stats, enable_stats},
};
use statlink_tests::{
    netns::Pod,
    peer::{self, Activator, PORT},
    scenario::Bed,
    tcp, wait,
};

use crate::{
    Build,
    figures::{Figures, UNLIMITED, at_most},
    observed,
    storm::{self, Strangers},
    way,
};

/// Alternates the builds, each with its own agent.
pub(crate) fn measure(bed: &mut Bed, builds: &[Build], figures: &mut Figures) -> Result<()> {
    let _stats = enable_stats(Stats::RunTime).context("count the programs' run time")?;
    let strangers = Strangers {
        at: bed.network.pod("programs-strangers")?.namespace,
    };
    let listener = strangers.listen(storm::UNRELATED)?;
    let pod = bed.network.pod("programs-sink")?;
    let _sink = peer::bad_server(&pod, ["sink", &format!("[::]:{PORT}")])?;
    let target = format!("{}:{PORT}", pod.v4);
    let client = bed.network.pod("programs")?;

    let mut all: Vec<Measured> = builds.iter().map(|_| Measured::default()).collect();
    for _ in 0..ROUNDS {
        for (build, measured) in builds.iter().zip(&mut all) {
            bed.start_agent_with(&build.options(bed))?;
            measured.count(bed)?;
            let time = spent(bed)?;
            strangers.round(&listener, CONNECTIONS)?;
            measured
                .unrelated
                .push(time.since(bed)? / f64::from(CONNECTIONS));
            measured.watched(bed, &client, &target)?;
            bed.agent = None;
        }
    }

    let of_all = |part: fn(&Measured) -> Vec<f64>| all.iter().map(part).collect::<Vec<_>>();
    figures.of_builds(
        "programs, an unrelated connection and its end",
        of_all(|m| m.unrelated.clone()),
        "ns",
        UNLIMITED,
    );
    figures.of_builds(
        "programs, a watched event",
        of_all(|m| m.event.clone()),
        "ns",
        UNLIMITED,
    );
    figures.of_builds(
        "programs, a watched event and its notification",
        of_all(|m| m.notified.clone()),
        "ns",
        at_most(450.0),
    );
    let names: BTreeSet<String> = all.iter().flat_map(|m| m.counts.keys().cloned()).collect();
    for name in names {
        for (what, unit, of) in COUNTS {
            let values = all.iter().map(|measured| {
                let counts = measured.counts.get(&name);
                counts.map(of).into_iter().collect::<Vec<f64>>()
            });
            figures.of_builds(format!("{name}, {what}"), values.collect(), unit, UNLIMITED);
        }
    }
    Ok(())
}

/// The measurements of one build.
#[derive(Default)]
struct Measured {
    counts: BTreeMap<String, Counts>,
    unrelated: Vec<f64>,
    event: Vec<f64>,
    notified: Vec<f64>,
}

/// The counts of one program, which do not depend on the machine's load.
struct Counts {
    verified: f64,
    compiled: f64,
    way: f64,
}

/// The name of a count, its unit, and how to read it.
type Count = (&'static str, &'static str, fn(&Counts) -> f64);

const COUNTS: [Count; 3] = [
    ("instructions verified", "", |counts| counts.verified),
    ("compiled", "B", |counts| counts.compiled),
    ("instructions of the shortest way", "", |counts| counts.way),
];

impl Measured {
    fn count(&mut self, bed: &Bed) -> Result<()> {
        for program in programs(bed)? {
            let name = program.name_as_str().unwrap_or("?").to_owned();
            let counts = Counts {
                // Since 5.16; 0 before.
                verified: program.verified_instruction_count().unwrap_or(0).into(),
                compiled: program.size_jitted().into(),
                way: f64::from(u32::try_from(way::shortest(&program)?)?),
            };
            self.counts.insert(name, counts);
        }
        Ok(())
    }

    /// Connections of one activator that are made and lost, with the agent running and with the
    /// agent frozen.
    fn watched(&mut self, bed: &Bed, client: &Pod, target: &str) -> Result<()> {
        let (rate, count) = (RATE.to_string(), u64::MAX.to_string());
        let flapping = Activator::stand_in(client, ["flap", target, &rate, &count])?;
        let agent = bed.agent.as_ref().context("the agent was not started")?;
        wait::until("link of the client", crate::PATIENCE, || {
            Ok(agent.activators()?.pop())
        })?;
        self.notified.push(of_events(bed, &flapping)?);
        agent.process.freeze()?;
        let frozen = of_events(bed, &flapping);
        agent.process.thaw()?;
        self.event.push(frozen?);
        Ok(())
    }
}

/// The programs' time for one record of `activator`.
fn of_events(bed: &Bed, activator: &Activator) -> Result<f64> {
    let opens = || anyhow::Ok(tcp::Counters::of(activator.process.pid())?.opens);
    let (before, time) = (opens()?, spent(bed)?);
    thread::sleep(WINDOW);
    let time = time.since(bed)?;
    let connections = f64::from(u32::try_from(opens()? - before)?);
    Ok(time / (connections * RECORDS))
}

/// How long the agent's programs have run.
struct Spent(Duration);

impl Spent {
    /// Nanoseconds since then.
    fn since(&self, bed: &Bed) -> Result<f64> {
        let more = spent(bed)?.0.saturating_sub(self.0);
        Ok(more.as_secs_f64() * 1e9)
    }
}

fn spent(bed: &Bed) -> Result<Spent> {
    let programs = programs(bed)?;
    Ok(Spent(programs.iter().map(ProgramInfo::run_time).sum()))
}

/// The agent's own programs.
fn programs(bed: &Bed) -> Result<Vec<ProgramInfo>> {
    let own = observed(bed)?.programs()?;
    // Programs of others may end while they are listed.
    let loaded = loaded_programs().filter_map(Result::ok);
    Ok(loaded.filter(|p| own.contains(&p.id())).collect())
}

const ROUNDS: usize = 5;
const CONNECTIONS: u32 = 5_000;
/// Connections a second. While the agent is frozen nobody reads: the ring holds 1,638 records, and
/// at this rate a window makes 900.
const RATE: u32 = 300;
const WINDOW: Duration = Duration::from_secs(1);
/// `Attempted`, `Established`, `Ended`.
const RECORDS: f64 = 3.0;
