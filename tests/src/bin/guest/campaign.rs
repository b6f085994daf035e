//! Faults in a random order, each in a random weather: what one leaves behind must not change what is
//! told of the next.

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

/// Plays [`PLAYS`] cases; the same seed plays the same.
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
        // What a fault leads to is as certain in it as without; where packets are lost, a refusal may
        // come too late for the dial.
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

/// Each is a fault of each of the three links: 60.
const PLAYS: u32 = 20;
/// How many of them until packets are lost on links that nobody breaks.
const PLAYS_TO_A_STORM: u32 = 5;
