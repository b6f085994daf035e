//! What a fleet costs those who store what it says: a real Collector and a real Prometheus, and the agents of so
//! many nodes. They are replayed from what a real one sent, with its cadence; some real ones are among them.

mod page;
mod place;
mod recorded;
mod replay;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use statlink_tests::agent::{self, Agent};

use self::{
    page::{Row, Saved},
    place::{Place, Spent, Way},
    recorded::Recorded,
    replay::{Fleet, Size, To},
};
use crate::machine::Machine;

/// What a fleet costs a Collector and a Prometheus
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many nodes, one run each
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,5000")]
    nodes: Vec<u32>,
    /// The ways from the agents to Prometheus
    #[arg(long, value_enum, value_delimiter = ',', default_value = "gateway")]
    way: Vec<Way>,
    /// Of how many nodes one has an activator
    #[arg(long, default_value_t = 25)]
    one_in: u32,
    /// How many real agents are added to each run
    #[arg(long, default_value_t = 2)]
    agents: u32,
    /// How long each state is measured, in seconds; a node without a link speaks once a minute
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Keep what was measured: in tests/bench/fleet.json and in deploy/docs/sizing.md
    #[arg(long)]
    save: bool,
    /// Measure nothing: write the page anew from what was kept
    #[arg(long)]
    page: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut saved = Saved::read()?;
    if options.page {
        return saved.write();
    }
    let machine = Machine::now();
    eprintln!("{}", machine.line());
    eprintln!("what an agent sends is recorded");
    let recorded = Arc::new(Recorded::of_agent()?);
    let mut rows = Vec::new();
    for way in &options.way {
        for nodes in &options.nodes {
            let row = measure(*way, *nodes, options, &recorded, &machine)
                .with_context(|| format!("{nodes} nodes, {}", way.title()))?;
            println!("{}", page::line(&row));
            rows.push(row);
        }
    }
    println!("\n{}", page::table(&rows));
    if options.save {
        saved.put(rows);
        saved.write()?;
    }
    Ok(())
}

fn measure(
    way: Way,
    nodes: u32,
    options: &Options,
    recorded: &Arc<Recorded>,
    machine: &Machine,
) -> Result<Row> {
    let size = Size {
        nodes,
        links: nodes.div_ceil(options.one_in),
        hit: nodes.div_ceil(100),
    };
    eprintln!("{nodes} nodes, {}", way.title());
    let state = Duration::from_secs(options.seconds);
    let mut place = Place::start(way)?;
    let real = real_agents(&place, options.agents)?;
    let begin = Instant::now();
    let fleet = Fleet::start(place.namespace(), size, place.to, recorded);
    let all = f64::from(nodes) + real.len() as f64;
    let every_node = until("every node in Prometheus", MINUTE * 3, || {
        Ok(place.told_nodes()? >= all)
    });
    every_node.with_context(|| {
        let exports = fleet.exports_since(begin);
        let failed = exports.iter().filter(|export| !export.has_arrived);
        let told = place.told_nodes().unwrap_or_default();
        let (failed, all) = (failed.count(), exports.len());
        format!("{told} are there; {failed} of {all} exports failed")
    })?;
    let mut row = Row::new(way, nodes, size.links, machine.line());
    row.all_told_s = begin.elapsed().as_secs_f64();
    // What a new series takes is over once each has been there for a while.
    thread::sleep(state);

    eprintln!("    at rest");
    let (start, spent) = (Instant::now(), place.spent()?);
    thread::sleep(state);
    let length = start.elapsed();
    (row.collector_cpu, row.prometheus_cpu) = share(spent, place.spent()?, length);
    (row.collector_mb, row.prometheus_mb) = place.memory_mb()?;
    let exports = fleet.exports_since(start);
    row.exports_per_second = exports.len() as f64 / length.as_secs_f64();
    row.failed = exports.iter().filter(|export| !export.has_arrived).count() as f64;
    row.series = place.prometheus.series()? as f64;
    let rules = place.prometheus.rule_times()?;
    let total: Duration = rules.iter().map(|(_, took)| *took).sum();
    row.rules_ms = ms(total);
    let asked = place::asked(&place.prometheus, begin.elapsed())?;
    row.dashboards_ms = ms(asked.iter().map(|(took, _)| *took).sum());
    let slowest = asked.into_iter().max().context("no query was asked")?;
    row.slowest_ms = ms(slowest.0);
    eprintln!(
        "    the slowest query: {:.0} ms: {}",
        row.slowest_ms, slowest.1
    );

    eprintln!("    one of a hundred nodes in outage");
    let (start, spent) = (Instant::now(), place.spent()?);
    fleet.outage(true);
    let down = f64::from(size.hit.min(size.links));
    until("the outages in Prometheus", MINUTE, || {
        Ok(place.told_down()? >= down)
    })?;
    row.outage_told_s = start.elapsed().as_secs_f64();
    thread::sleep((state / 2).saturating_sub(start.elapsed()));
    let (collector, prometheus) = share(spent, place.spent()?, start.elapsed());
    (row.outage_collector_cpu, row.outage_prometheus_cpu) = (collector, prometheus);
    fleet.outage(false);

    if let Some(collector) = &mut place.collector {
        eprintln!("    the Collector restarts");
        let start = Instant::now();
        collector.restart()?;
        let up = Instant::now();
        let is_back = || {
            let exports = fleet.exports_since(start);
            let arrived = exports.iter().filter(|export| export.has_arrived);
            let nodes: BTreeSet<u32> = arrived.map(|export| export.node).collect();
            Ok(nodes.len() == size.nodes as usize)
        };
        until("every node's next export", MINUTE * 2, is_back)?;
        row.back_s = start.elapsed().as_secs_f64();
        let exports = fleet.exports_since(start);
        row.restart_failed = exports.iter().filter(|export| !export.has_arrived).count() as f64;
        let mut each_second = BTreeMap::<u64, u32>::new();
        for at in fleet.connections_since(up) {
            *each_second.entry((at - up).as_secs()).or_default() += 1;
        }
        row.most_connections = each_second.into_values().max().unwrap_or(0).into();
        row.restart_peak_mb = place.peak_mb()?;
        // Those that are real come back, too.
        let real = real.len() as f64;
        until("the real agents' next export", MINUTE * 2, || {
            let age = "time() - timestamp(statlink_links{instance=~\"real-.*\"})";
            let fresh = format!("count({age} < {})", start.elapsed().as_secs());
            let answer = place.prometheus.query(&fresh)?;
            Ok(answer.first().is_some_and(|count| count.value >= real))
        })?;
    }
    // A Collector with a page has forgotten all nodes, and Prometheus scrapes it now and then.
    until("every node in Prometheus at the end", MINUTE, || {
        Ok(place.told_nodes()? >= all)
    })?;
    Ok(row)
}

/// Agents of this build on nodes of their own names, without a link.
fn real_agents(place: &Place, number: u32) -> Result<Vec<Agent>> {
    let (endpoint, protocol) = match place.to {
        To::Grpc(address) => (format!("http://{address}"), "grpc"),
        To::Http(address, _) => (format!("http://{address}/api/v1/otlp"), "http/protobuf"),
    };
    let start = |number: u32| {
        let options = agent::Options {
            namespace: Some(place.namespace().clone()),
            endpoint: Some(endpoint.clone()),
            // None is there.
            activators_in: Some("nowhere".to_owned()),
            ..agent::Options::default()
        };
        Agent::start(
            &options
                .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
                .env("STATLINK_KUBERNETES", "off")
                .env("STATLINK_NODE_NAME", format!("real-{number}"))
                .env("STATLINK_CLUSTER_NAME", "fleet"),
        )
    };
    (0..number).map(start).collect()
}

/// Percents of a core: of the Collector, and of Prometheus.
fn share(before: Spent, after: Spent, length: Duration) -> (f64, f64) {
    let percent = |before: Duration, after: Duration| {
        after.saturating_sub(before).as_secs_f64() / length.as_secs_f64() * 100.0
    };
    (
        percent(before.collector, after.collector),
        percent(before.prometheus, after.prometheus),
    )
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Asks now and then, so that the asking costs next to nothing.
fn until(what: &str, patience: Duration, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > patience {
            bail!("no {what} within {patience:?}");
        }
        thread::sleep(ASK);
    }
    Ok(())
}

const ASK: Duration = Duration::from_millis(250);
const MINUTE: Duration = Duration::from_secs(60);
