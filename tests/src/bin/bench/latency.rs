//! How soon the agent and the Collector know of an event.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use statlink_tests::{
    fault::{Faults, Reject},
    peer::{Activator, Traffic},
    process::{Line, Process},
    scenario::{Bed, link, metric},
};

use crate::figures::{Figures, UNLIMITED, each_at_most};

/// Milliseconds from the event until the agent knew, and until the Collector had it.
#[derive(Default)]
struct Latencies {
    agent: Vec<f64>,
    collector: Vec<f64>,
}

/// Measures each kind of loss `times` times.
pub(crate) fn measure(
    bed: &mut Bed,
    activator: &mut Activator,
    times: usize,
    figures: &mut Figures,
) -> Result<()> {
    let agent = bed.agent.as_ref().context("the agent was not started")?;
    let mut events = agent.events()?;

    eprintln!("{times} resets, {times} ends of the autoscaler, {times} refused dials");
    let (mut reset, mut closed) = (Latencies::default(), Latencies::default());
    let mut refused = Latencies::default();
    for _ in 0..times {
        lose(bed, &mut events, activator, &mut reset, |bed, a| {
            bed.faults(a).reset_established()
        })?;
        lose(bed, &mut events, activator, &mut closed, |bed, _| {
            bed.autoscaler()?.restart()
        })?;
        refuse(bed, &mut events, activator, &mut refused)?;
    }
    figures.several(
        "refused, in the agent",
        refused.agent,
        "ms",
        each_at_most(50.0),
    );
    figures.several(
        "refused, at the Collector",
        refused.collector,
        "ms",
        each_at_most(250.0),
    );
    figures.several("reset, in the agent", reset.agent, "ms", each_at_most(50.0));
    figures.several(
        "reset, at the Collector",
        reset.collector,
        "ms",
        each_at_most(250.0),
    );
    figures.several(
        "closed, in the agent",
        closed.agent,
        "ms",
        each_at_most(50.0),
    );
    figures.several(
        "closed, at the Collector",
        closed.collector,
        "ms",
        each_at_most(250.0),
    );

    let times = times.div_ceil(2);
    eprintln!("{times} blackholes with stats, {times} without");
    let mut flowing = Latencies::default();
    let mut quiet = bed.activator("quiet", Traffic::Idle)?;
    quiet.wait_connected(crate::PATIENCE)?;
    bed.wait_reachable(&quiet, 1, crate::PATIENCE)?;
    let mut idle = Latencies::default();
    for _ in 0..times {
        blackhole(bed, &mut events, activator, &mut flowing)?;
        blackhole(bed, &mut events, &mut quiet, &mut idle)?;
    }
    figures.several(
        "blackhole with stats, in the agent",
        flowing.agent,
        "ms",
        each_at_most(1_500.0),
    );
    figures.several(
        "blackhole with stats, at the Collector",
        flowing.collector,
        "ms",
        UNLIMITED,
    );
    figures.several(
        "blackhole idle, in the agent",
        idle.agent,
        "ms",
        each_at_most(4_000.0),
    );
    figures.several(
        "blackhole idle, at the Collector",
        idle.collector,
        "ms",
        UNLIMITED,
    );
    Ok(())
}

/// Loses a live link by `fault`, and waits until it is back.
fn lose(
    bed: &mut Bed,
    events: &mut Process,
    activator: &Activator,
    latencies: &mut Latencies,
    fault: impl FnOnce(&mut Bed, &Activator) -> Result<()>,
) -> Result<()> {
    let (mark, exports) = (events.mark(), bed.collector.mark());
    fault(bed, activator)?;
    let line = event(events, mark, activator, "unreachable")?;
    let at = moment(&line, "at")?;
    latencies.agent.push(ms(at, moment(&line, "known_at")?));
    let arrived = lost_at(bed, exports, activator)?;
    latencies.collector.push(ms(at, arrived));
    event(events, mark, activator, "reachable")?;
    // Beyond the pace of exports, so that the next loss does not wait for this recovery's.
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}

/// A blackhole, healed as soon as it is noticed. Measured from its injection, because it causes no
/// event in the kernel.
fn blackhole(
    bed: &mut Bed,
    events: &mut Process,
    activator: &mut Activator,
    latencies: &mut Latencies,
) -> Result<()> {
    let (mark, exports) = (events.mark(), bed.collector.mark());
    let begin = SystemTime::now();
    let fault = bed.faults(activator).blackhole()?;
    let line = event(events, mark, activator, "unreachable")?;
    latencies.agent.push(ms(begin, moment(&line, "known_at")?));
    let arrived = lost_at(bed, exports, activator)?;
    latencies.collector.push(ms(begin, arrived));
    fault.heal()?;
    event(events, mark, activator, "reachable")?;
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}

/// A refused dial after a loss.
fn refuse(
    bed: &mut Bed,
    events: &mut Process,
    activator: &Activator,
    latencies: &mut Latencies,
) -> Result<()> {
    let (mark, exports) = (events.mark(), bed.collector.mark());
    let fault = Faults::new(&activator.pod, &bed.autoscaler_pod).reject_syn(Reject::TcpReset)?;
    let attributes = [
        &link(&activator.pod)[..],
        &[
            ("kn.check.kind", "connect"),
            ("error.type", "connection_refused"),
        ],
    ]
    .concat();
    let before = bed.collector.total(metric::ERRORS, &attributes);
    bed.faults(activator).reset_established()?;
    let line = event(events, mark, activator, "connect_failed")?;
    let at = moment(&line, "at")?;
    latencies.agent.push(ms(at, moment(&line, "known_at")?));
    let (arrived, _) = bed.collector.wait_for_after(
        exports,
        metric::ERRORS,
        &attributes,
        crate::PATIENCE,
        |point| point.value.number() > before,
    )?;
    latencies.collector.push(ms(at, arrived));
    fault.heal()?;
    event(events, mark, activator, "reachable")?;
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}

/// When the Collector had it.
fn lost_at(bed: &Bed, exports: usize, activator: &Activator) -> Result<SystemTime> {
    let found = bed.collector.wait_for_after(
        exports,
        metric::REACHABLE,
        &link(&activator.pod),
        crate::PATIENCE,
        |point| point.value.number() == 0.0,
    )?;
    Ok(found.0)
}

fn event(events: &mut Process, mark: usize, activator: &Activator, what: &str) -> Result<Line> {
    let wanted = format!("report {what:?} of {}", activator.pod.name);
    events.wait_for_after(mark, &wanted, crate::PATIENCE, |line| {
        line.event() == Some(what) && line.get("pod") == activator.pod.name.as_str()
    })
}

fn moment(line: &Line, field: &str) -> Result<SystemTime> {
    let seconds = line
        .get(field)
        .as_f64()
        .with_context(|| format!("no {field}"))?;
    Ok(SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(seconds)?)
}

fn ms(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or_default().as_secs_f64() * 1e3
}
