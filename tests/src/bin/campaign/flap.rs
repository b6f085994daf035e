//! One link that is reset every 300 ms.

use std::time::{Duration, Instant};

use anyhow::Result;
use statlink_tests::fault::Faults;

use crate::{lane::Lane, reported::EXPORTS_A_SECOND, stage::Stage, truth::Sums};

/// Returns whether the counts are exact, and exports and log lines limited.
pub(crate) fn flap(length: Duration) -> Result<bool> {
    let mut stage = Stage::set(1)?;
    stage.look_for(Duration::from_secs(3));
    let pod = stage.lane()?.pod.name.clone();
    let before = stage.ledger.of(&pod).newest();
    let mark = stage.lane()?.history.mark();
    let (log, exports) = (stage.agent()?.mark(), stage.ledger.exports());
    let agent = stage.observed()?;
    let cpu = agent.cpu()?;
    let start = Instant::now();
    let mut resets = 0_u32;
    while start.elapsed() < length {
        let next = Instant::now() + FLAP;
        // Without a connection there is nothing to reset this time.
        resets += u32::from(stage.lane()?.reset());
        stage.look_for(next.saturating_duration_since(Instant::now()));
    }
    let spent = agent.cpu()? - cpu;
    let elapsed = start.elapsed().as_secs_f64();
    stage.look_for(Duration::from_secs(4));

    let after = stage.ledger.of(&pod).newest();
    let sums = Sums::of(stage.lane()?.history.since(mark));
    let attempts = after.checks("connect") - before.checks("connect");
    let losses = after.checks("disconnect") - before.checks("disconnect");
    let connects = after.connects - before.connects;
    let dials = sums.attempts();
    let exact = (sums.short.0..=sums.short.1).any(|short| {
        attempts == dials && connects + short == sums.established && losses + short == sums.lost
    });
    let lines = stage.agent()?.mark() - log;
    let most = stage.ledger.busiest_second;
    println!("{resets} resets in {elapsed:.0} s");
    println!(
        "the activator: {dials} dials, {} established, {} lost, {} to {} of them too soon to be upgraded",
        sums.established, sums.lost, sums.short.0, sums.short.1
    );
    println!("the agent:     {attempts} attempts, {connects} connects, {losses} losses");
    println!("counts exact:  {}", if exact { "yes" } else { "NO" });
    println!(
        "exports:       {}, at most {most} in a second",
        stage.ledger.exports() - exports
    );
    println!("log lines:     {lines}");
    println!(
        "CPU:           {:.2} % of a core",
        spent.as_secs_f64() / elapsed * 100.0
    );
    println!("memory:        {:.2} MB", agent.resident_mb()?);
    for broken in &stage.ledger.broken {
        println!("WRONG  {broken}");
    }
    let bounded = lines as u64 <= length.as_secs().div_ceil(60) + LINES_AT_THE_START;
    Ok(exact && bounded && stage.ledger.broken.is_empty() && most <= EXPORTS_A_SECOND)
}

impl Lane {
    /// Whether there was a connection to reset.
    fn reset(&self) -> bool {
        let (client, server) = self.pods();
        Faults::new(client, server).reset_established().is_ok()
    }
}

const FLAP: Duration = Duration::from_millis(300);
/// Three outages with a line at each end, the beginning of the fourth, and the summary at the end.
const LINES_AT_THE_START: u64 = 3 * 2 + 1 + 1;
