//! Faults in a random order, each in a random weather: the traces of one must not change the report
//! of the next.

use anyhow::{Context as _, Result};
use fastrand::Rng;
use statlink_tests::{agent, scenario::Bed};

use crate::{
    agent_facts,
    cases::{self, CASES},
    links::Links,
    verdict::Verdicts,
    weather::{self, MILD},
};

/// Plays [`PLAYS`] cases; the same seed plays the same ones.
pub(crate) fn play(
    seed: u64,
    verdicts: &mut Verdicts,
    bed: &mut Bed,
    agent: &agent::Options,
    links: &mut Links,
) -> Result<()> {
    let mut random = Rng::with_seed(seed);
    agent_facts::start(verdicts, bed, agent)?;
    for number in 1..=PLAYS {
        let case = random.choice(CASES).context("no case")?;
        // In mild weather a fault has the same certain result as without it; if packets are lost, a
        // refusal may come too late for the dial.
        let mild = random.bool();
        println!(
            "{number}/{PLAYS}: {}{}",
            case.name,
            if mild { ", mild weather" } else { "" }
        );
        if mild {
            weather::begin(links, MILD)?;
        }
        cases::play(case, verdicts, bed, links)?;
        if mild {
            weather::end(links)?;
        }
        if number % PLAYS_TO_A_STORM == 0 {
            weather::all(verdicts, bed, links)?;
        }
    }
    agent_facts::end(verdicts, bed)
}

/// Each injects a fault on each of the three links: 60.
const PLAYS: u32 = 20;
/// After how many of them packets are lost on unbroken links.
const PLAYS_TO_A_STORM: u32 = 5;
