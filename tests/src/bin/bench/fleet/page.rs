//! What was measured of fleets: kept as JSON, and shown in the operators' page.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use statlink_tests::deploy;

use super::place::Way;
use crate::{
    figures::number,
    marks,
    plot::{Line, Plot},
};

/// What one fleet took, on one way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) way: Way,
    pub(super) nodes: u32,
    pub(super) links: u32,
    /// What it was measured on.
    machine: String,
    /// From the start of all agents until Prometheus knew each.
    pub(super) all_told_s: f64,
    pub(super) exports_per_second: f64,
    /// Of them, those that failed.
    pub(super) failed: f64,
    pub(super) series: f64,
    /// Percents of a core, at rest, the evaluation of rules with them.
    pub(super) collector_cpu: f64,
    pub(super) prometheus_cpu: f64,
    pub(super) collector_mb: f64,
    pub(super) prometheus_mb: f64,
    /// All rules once.
    pub(super) rules_ms: f64,
    /// All queries of all dashboards once.
    pub(super) dashboards_ms: f64,
    /// The slowest of them.
    pub(super) slowest_ms: f64,
    /// From the outage of one node of a hundred until Prometheus had all of them.
    pub(super) outage_told_s: f64,
    pub(super) outage_collector_cpu: f64,
    pub(super) outage_prometheus_cpu: f64,
    /// From the Collector's end until every node's next export had arrived.
    pub(super) back_s: f64,
    /// The most connections in one second after it had come back.
    pub(super) most_connections: f64,
    /// Exports that failed meanwhile.
    pub(super) restart_failed: f64,
    pub(super) restart_peak_mb: f64,
}

impl Row {
    /// Nothing is known yet.
    pub(super) const fn new(way: Way, nodes: u32, links: u32, machine: String) -> Self {
        Self {
            way,
            nodes,
            links,
            machine,
            all_told_s: 0.0,
            exports_per_second: 0.0,
            failed: 0.0,
            series: 0.0,
            collector_cpu: 0.0,
            prometheus_cpu: 0.0,
            collector_mb: 0.0,
            prometheus_mb: 0.0,
            rules_ms: 0.0,
            dashboards_ms: 0.0,
            slowest_ms: 0.0,
            outage_told_s: 0.0,
            outage_collector_cpu: 0.0,
            outage_prometheus_cpu: 0.0,
            back_s: 0.0,
            most_connections: 0.0,
            restart_failed: 0.0,
            restart_peak_mb: 0.0,
        }
    }
}

/// What runs have kept.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    rows: Vec<Row>,
}

impl Saved {
    /// What is committed; nothing where nothing is.
    pub(super) fn read() -> Result<Self> {
        let path = path();
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no such run", path.display()))
    }

    /// Each in the place of a former one of the same fleet and way.
    pub(super) fn put(&mut self, rows: Vec<Row>) {
        for row in rows {
            self.rows
                .retain(|old| (old.way, old.nodes) != (row.way, row.nodes));
            self.rows.push(row);
        }
        self.rows.sort_by_key(|row| (row.way, row.nodes));
    }

    /// Writes it, and the page of it.
    pub(super) fn write(&self) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        for (path, text) in [(path(), json), (page(), self.page()?)]
            .into_iter()
            .chain([(picture(), self.plot()?)])
        {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    fn page(&self) -> Result<String> {
        let path = page();
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let text = marks::replaced(&text, "fleet", &table(&self.rows))?;
        marks::replaced(&text, "fleet-machines", &self.machines())
    }

    /// What each was measured on.
    fn machines(&self) -> String {
        let mut machines: Vec<(&str, Vec<String>)> = Vec::new();
        for row in &self.rows {
            let run = format!(
                "{} nodes ({})",
                thousands(row.nodes.into()),
                row.way.title()
            );
            match machines
                .iter_mut()
                .find(|(machine, _)| *machine == row.machine)
            {
                Some((_, runs)) => runs.push(run),
                None => machines.push((&row.machine, vec![run])),
            }
        }
        let lines = machines.iter();
        let lines = lines.map(|(machine, runs)| format!("- {}: {machine}\n", runs.join(", ")));
        lines.collect()
    }

    fn plot(&self) -> Result<String> {
        let of = |way: Way, what: fn(&Row) -> f64| {
            let rows = self.rows.iter().filter(|row| row.way == way);
            rows.map(|row| (f64::from(row.nodes), what(row))).collect()
        };
        let line = |name: &str, points| Line {
            name: name.to_owned(),
            points,
        };
        Plot {
            x: "nodes",
            y: "% of a core",
            lines: vec![
                line("Collector", of(Way::Gateway, |row| row.collector_cpu)),
                line(
                    "Prometheus behind it",
                    of(Way::Gateway, |row| row.prometheus_cpu),
                ),
                line(
                    "Collector with a page",
                    of(Way::Exporter, |row| row.collector_cpu),
                ),
            ],
        }
        .svg()
    }
}

/// One line of a run, as it ends.
pub(super) fn line(row: &Row) -> String {
    format!("{row:#?}")
}

/// Numbers in figures, a row for each fleet and way.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| nodes | way | exports/s | series | Collector: CPU | memory | Prometheus: CPU | memory \
         | all rules | dashboards, slowest query | an outage is told after | restart: all back after \
         | most connections in 1 s | exports that failed |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let is_there = row.way != Way::Direct;
        let of_collector = |text: String| if is_there { text } else { String::new() };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} % | {} MB | {} ms | {} ms, {} ms | {} s | {} | {} | {} |",
            thousands(row.nodes.into()),
            row.way.title(),
            number(row.exports_per_second),
            thousands(row.series),
            of_collector(format!("{} %", number(row.collector_cpu))),
            of_collector(format!("{:.0} MB", row.collector_mb)),
            number(row.prometheus_cpu),
            format_args!("{:.0}", row.prometheus_mb),
            format_args!("{:.0}", row.rules_ms),
            format_args!("{:.0}", row.dashboards_ms),
            format_args!("{:.0}", row.slowest_ms),
            format_args!("{:.1}", row.outage_told_s),
            of_collector(format!("{:.0} s", row.back_s)),
            of_collector(format!("{:.0}", row.most_connections)),
            of_collector(format!("{:.0}", row.restart_failed + row.failed)),
        );
    }
    text
}

/// 5000.4 as 5,000.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bench/fleet.json")
}

fn page() -> PathBuf {
    deploy::directory().join("docs/sizing.md")
}

fn picture() -> PathBuf {
    deploy::directory().join("docs/sizing-fleet.svg")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(way: Way, nodes: u32, cpu: f64) -> Row {
        Row {
            collector_cpu: cpu,
            ..Row::new(way, nodes, 1, "a machine".to_owned())
        }
    }

    #[test]
    fn a_later_run_takes_the_place_of_the_former_of_the_same_fleet_alone() {
        let mut saved = Saved::default();
        saved.put(vec![row(Way::Direct, 10, 1.0), row(Way::Gateway, 10, 2.0)]);
        saved.put(vec![row(Way::Gateway, 10, 3.0)]);
        let kept: Vec<_> = saved
            .rows
            .iter()
            .map(|r| (r.way, r.collector_cpu))
            .collect();
        assert_eq!(kept, [(Way::Gateway, 3.0), (Way::Direct, 1.0)]);
    }

    #[test]
    fn the_page_and_the_picture_are_of_what_was_kept() {
        let saved = Saved::read().unwrap();
        assert!(!saved.rows.is_empty());
        assert_eq!(saved.page().unwrap(), fs::read_to_string(page()).unwrap());
        assert_eq!(
            saved.plot().unwrap(),
            fs::read_to_string(picture()).unwrap()
        );
    }

    #[test]
    fn a_table_says_nothing_of_a_collector_that_is_not_there() {
        let text = table(&[row(Way::Direct, 5_000, 9.0)]);
        let row = text.lines().last().unwrap();
        assert!(row.starts_with("| 5,000 | no gateway |"), "{row}");
        assert!(!row.contains("9.000"), "{row}");
    }

    #[test]
    fn thousands_have_their_commas() {
        let numbers = [7.0, 999.0, 1_000.0, 160_000.4, 1_234_567.0];
        let expected = ["7", "999", "1,000", "160,000", "1,234,567"];
        assert_eq!(numbers.map(thousands), expected);
    }
}
