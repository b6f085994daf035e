//! A soak: no faults, but an activator is replaced every minute, alternately killed and terminated.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{lane::Lane, schedule::End, stage::Stage};

/// Returns whether no error was reported, for lasting and for replaced activators, and the agent
/// did not grow.
pub(crate) fn soak(length: Duration) -> Result<bool> {
    let mut stage = Stage::set(LANES)?;
    let start = Instant::now();
    let mut wrong = Vec::new();
    let mut sizes = Vec::new();
    let mut former = None;
    println!("    time      RSS, MB   maps, kB   descriptors   links   replaced   wrong");
    for minute in 1.. {
        let next = MINUTE * minute;
        stage.look_for(next.min(length).saturating_sub(start.elapsed()));
        judge(&stage, &mut wrong);
        let agent = stage.observed()?;
        let size = Size {
            resident_mb: agent.resident_mb()?,
            maps_kb: agent.kernel_kb()?.0,
            descriptors: agent.descriptors()?,
        };
        println!(
            "{:>6.0} s  {:>11.2}{:>11.0}{:>14}{:>8}{:>11}{:>8}",
            start.elapsed().as_secs_f64(),
            size.resident_mb,
            size.maps_kb,
            size.descriptors,
            stage.lanes.len(),
            minute - 1,
            wrong.len()
        );
        sizes.push(size);
        if start.elapsed() >= length {
            break;
        }
        let Stage { lanes, site, .. } = &mut stage;
        let turn = usize::try_from(minute)?;
        let lane = lanes.get_mut(turn % LANES).context("no lane")?;
        // Each lane's activators end in both ways. A terminated one may take until the next turn.
        let end = if (turn / LANES).is_multiple_of(2) {
            End::Killed
        } else {
            End::Deleted
        };
        drop(former.replace(lane.depart(site, end)?));
        lane.arrive(site)?;
    }
    grown(&sizes, &mut wrong);
    wrong.extend(stage.ledger.broken.iter().cloned());
    wrong.extend(stage.site.bed.collector.undecodable());
    println!(
        "{} exports, at most {} in a second; wrong: {wrong:#?}",
        stage.ledger.exports(),
        stage.ledger.busiest_second
    );
    Ok(wrong.is_empty())
}

/// The agent's size.
struct Size {
    resident_mb: f64,
    maps_kb: f64,
    descriptors: usize,
}

/// Each activator, also one that has ended, dialled once and stayed connected.
fn judge(stage: &Stage, wrong: &mut Vec<String>) {
    let here: Vec<_> = stage.lanes.iter().map(Lane::pod_name).collect();
    for (pod, reported) in stage.ledger.all() {
        let newest = reported.newest();
        let errors: u64 = newest.all_errors();
        let counts = (newest.checks("connect"), newest.connects, errors);
        let ended_in_time = here.contains(&pod) || !stage.ledger.is_in_newest_export(pod);
        if counts != (1, 1, 0) || newest.reachable != Some(true) || !ended_in_time {
            let text = format!("{pod}: {newest:?}, ended in time: {ended_in_time}");
            if !wrong.contains(&text) {
                println!("WRONG  {text}");
                wrong.push(text);
            }
        }
    }
    for pod in here {
        if !stage.ledger.is_in_newest_export(pod) {
            wrong.push(format!("{pod} is not told of"));
        }
    }
}

/// Compares the end with the first quarter, when everything has settled.
fn grown(sizes: &[Size], wrong: &mut Vec<String>) {
    let (Some(settled), Some(last)) = (sizes.get(sizes.len() / 4), sizes.last()) else {
        return;
    };
    if last.resident_mb > settled.resident_mb + 1.0 {
        let (before, after) = (settled.resident_mb, last.resident_mb);
        wrong.push(format!(
            "resident memory grew: {before:.2} to {after:.2} MB"
        ));
    }
    if last.maps_kb > settled.maps_kb {
        let (before, after) = (settled.maps_kb, last.maps_kb);
        wrong.push(format!("maps grew: {before} to {after} kB"));
    }
    if last.descriptors > settled.descriptors {
        let (before, after) = (settled.descriptors, last.descriptors);
        wrong.push(format!("descriptors grew: {before} to {after}"));
    }
}

const LANES: usize = 4;
const MINUTE: Duration = Duration::from_secs(60);
