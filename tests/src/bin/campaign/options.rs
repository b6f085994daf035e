//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::Parser;

/// Injects random faults between Knative's real client and server, and compares what the agent
/// exports with the truth.
///
/// Each lane is an activator with its own autoscaler, every other one with stats, and in turn over
/// IPv4, IPv6 and IPv4-mapped IPv6. One in five dials a name, and one in five dials through a
/// sidecar. Faults of the whole catalogue come one by one and overlapping, together with new pods,
/// new agents, and outages of the Collector and of the Kubernetes API. Meanwhile strangers flood
/// the port, pose as the activators, and dial in their pods. The truth is the injected and healed
/// faults with their times, the activators' own logs, and the kernel's counters. The judge checks
/// for missed and false outages, causes, counts (attempts, connects, losses, lives) and the
/// promises about exports; it measures how soon each was reported, beside Knative's own metric.
///
/// Every mistake is printed, and reduced to a file with only its window: the faults, the
/// activator's log, the agent's events and what the Collector received. The exit code is then 1.
#[derive(Debug, Parser)]
#[command(
    name = "campaign",
    bin_name = "cargo xtask campaign",
    after_help = EXAMPLES,
    max_term_width = 100
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) plan: Plan,

    /// No faults: an activator is replaced every minute, and the agent must not grow
    #[arg(long, value_name = "MINUTES", value_parser = minutes, conflicts_with_all = ["faults", "flap"])]
    pub(crate) soak: Option<Duration>,

    /// No other faults: one link is reset every 300 ms
    #[arg(long, value_name = "MINUTES", value_parser = minutes, conflicts_with = "faults")]
    pub(crate) flap: Option<Duration>,
}

/// How many faults of each kind, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// End after this many faults; 10 lanes take about 60 a minute
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) faults: u64,

    /// The seed of every random choice; printed, and drawn by default
    #[arg(long, value_name = "S", default_value_t = fastrand::u32(..).into(), hide_default_value = true)]
    pub(crate) seed: u64,

    /// End after this time, however many faults there were
    #[arg(long = "minutes", value_name = "M", value_parser = minutes)]
    pub(crate) limit: Option<Duration>,

    /// Activators at a time
    #[arg(long, value_name = "L", default_value_t = 10, value_parser = lanes)]
    pub(crate) lanes: usize,

    /// The longest fault; the shortest is 100 ms
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) longest: Duration,

    /// Also write the actions and their results to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<Duration, String> {
    length(text, 60.0)
}

fn seconds(text: &str) -> Result<Duration, String> {
    length(text, 1.0)
}

fn length(text: &str, unit: f64) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let length = Duration::try_from_secs_f64(number * unit).map_err(|e| e.to_string())?;
    if length < SHORTEST {
        return Err(format!("shorter than {SHORTEST:?}"));
    }
    Ok(length)
}

fn lanes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(lanes @ 1..=MOST_LANES) => Ok(lanes),
        Ok(_) | Err(_) => Err(format!("not a number from 1 to {MOST_LANES}")),
    }
}

/// A node of the test bed has 254 addresses, and each new pod takes one.
const MOST_LANES: usize = 40;
const SHORTEST: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  cargo xtask campaign                               1,000 faults, in about 20 minutes
  cargo xtask campaign --faults 50 --longest 5       a taste, in a minute
  cargo xtask campaign --seed 2026 --json run.json   the same schedule again
  cargo xtask campaign --soak 60                     an hour without faults
  cargo xtask campaign --flap 5                      one link that does not come to rest";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_exclude_each_other_and_lengths_are_checked() {
        let parse = |arguments: &str| {
            Options::try_parse_from(std::iter::once("campaign").chain(arguments.split(' ')))
        };
        let options = parse("--soak 0.5").unwrap();
        assert_eq!(options.soak, Some(Duration::from_secs(30)));
        for wrong in [
            "--soak 1 --flap 1",
            "--soak 1 --faults 3",
            "--minutes 0",
            "--lanes 0",
            "--longest x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
