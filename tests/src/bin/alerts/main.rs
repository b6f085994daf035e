//! Injects every fault of the cluster's tests and waits for its alert: in a Kubernetes of one node
//! with the real Knative, through the recommended Collector and into the recommended Prometheus.
//!
//! The result is a table of fault, alert and seconds. For alerts that wait for minutes, promtool's
//! unit tests are the proof (`deploy/prometheus/tests`).

mod acts;
mod faults;
mod place;
mod rules;
mod table;
mod watch;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use clap::{Parser, ValueEnum as _};

use self::{acts::Act, place::Place, table::Table};

/// Breaks a cluster in every way, and measures how long each alert takes
#[derive(Debug, Parser)]
#[command(name = "alerts", bin_name = "cargo xtask alerts", max_term_width = 100)]
struct Options {
    /// Only these acts, in this order; all by default
    #[arg(long, value_enum, value_name = "ACT", value_delimiter = ',')]
    only: Vec<Act>,
    /// Write the rows of each act into the table of deploy/prometheus/README.md, if all is as
    /// promised
    #[arg(long)]
    write: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("alerts: not all is as promised");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("alerts: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    let start = Instant::now();
    let mut place = Place::set_up()?;
    let acts = if options.only.is_empty() {
        Act::value_variants()
    } else {
        &options.only
    };
    let mut all = Table::default();
    let mut rules = None;
    for act in acts {
        let mut table = Table::default();
        // Each set of rules gets a Prometheus without a past; acts of one set share it.
        let played = if rules == Some(act.rules()) {
            Ok(())
        } else {
            rules = Some(act.rules());
            place.watch_with(act.rules())
        };
        // A failure in one act says nothing about the others.
        match played.and_then(|()| act.play(&mut place, &mut table)) {
            Ok(()) if options.write && table.is_right() => table.write()?,
            Ok(()) => {}
            Err(error) => {
                eprintln!("alerts: {act:?}: {error:#}");
                table.broke(act.rules(), &format!("{error:#}"));
                rules = None;
            }
        }
        println!("\n{}", table.text());
        all.append(table);
    }
    println!("\n{}", all.text());
    for rules in rules::Rules::ALL {
        println!("{}", rules.said());
    }
    println!("took {} s", start.elapsed().as_secs());
    Ok(all.is_right())
}
