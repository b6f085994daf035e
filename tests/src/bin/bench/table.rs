//! The figures as a table for people, and as JSON for machines.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    figures::{Budget, Figure, Figures, number},
    last_run::LastRun,
    machine::Machine,
    statistics::Samples,
};

/// One line for each figure. Columns of another build only if there is one.
pub(crate) fn text(figures: &Figures, last: &LastRun) -> String {
    let compares = figures.iter().any(|figure| figure.other.is_some());
    let mut head = vec!["figure", "n", "p50", "p10 to p90", "", "budget", "last run"];
    if compares {
        head.extend(["other", "this / other"]);
    }
    let rows = figures.iter().map(|figure| row(figure, last, compares));
    let rows: Vec<Vec<String>> = std::iter::once(head.into_iter().map(str::to_owned).collect())
        .chain(rows)
        .collect();
    aligned(&rows)
}

/// The same for machines.
pub(crate) fn json(figures: &Figures, last: &LastRun, machine: &Machine) -> Value {
    let figures = figures.iter().map(|figure| {
        let mut json = figure.json();
        if let Some(last) = last.of(&figure.what) {
            json.insert("last_run".to_owned(), last.into());
        }
        json
    });
    json!({ "machine": machine.json(), "figures": figures.collect::<Vec<_>>() })
}

fn row(figure: &Figure, last: &LastRun, compares: bool) -> Vec<String> {
    let dash = || "-".to_owned();
    let spread = figure.this.spread().filter(|_| figure.this.len() > 1);
    let mut row = vec![
        figure.what.clone(),
        figure.this.len().to_string(),
        figure.this.median().map_or_else(dash, number),
        spread.map_or_else(String::new, |(low, high)| {
            format!("{} to {}", number(low), number(high))
        }),
        figure.unit.to_owned(),
        figure
            .budget
            .map_or_else(String::new, |b| budget(figure, b)),
        last.of(&figure.what).map_or_else(String::new, number),
    ];
    if compares {
        let other = figure.other.as_ref().and_then(Samples::median);
        row.push(other.map_or_else(String::new, number));
        row.push(figure.comparison().map_or_else(String::new, |compared| {
            let doubt = if compared.is_clear { "" } else { " ?" };
            format!("{}{doubt}", number(compared.ratio))
        }));
    }
    row
}

/// The budget; the part that it applies to, if that is not the one in the table; and whether it is
/// kept.
fn budget(figure: &Figure, Budget { most, of }: Budget) -> String {
    let mut text = format!("{} ≤ {}", of.name(), number(most));
    if figure.holds() == Some(false) {
        let found = figure.this.quantile(of.quantile()).unwrap_or_default();
        let _ = write!(text, ", OVER: {}", number(found));
    }
    text
}

/// The first column is left-aligned, the others as wide as they need to be.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                // Text: the name, the unit, the budget.
                0 | 4 | 5 => write!(line, "{cell:<width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{UNLIMITED, at_most, each_at_most};

    fn figures() -> Figures {
        let mut figures = Figures::default();
        figures.several("storm", vec![1.05, 1.01, 1.2], "", at_most(1.01));
        figures.several(
            "loss to link",
            vec![2.0, 3.0, 80.0],
            "ms",
            each_at_most(50.0),
        );
        figures.add("memory", 12.0, "MB", at_most(12.0));
        figures.several("never ran", vec![], "ns", UNLIMITED);
        figures
    }

    #[test]
    fn each_figure_stands_beside_its_budget_and_the_last_run() {
        let last = LastRun::default();
        assert_eq!(
            text(&figures(), &last),
            "\
figure        n    p50      p10 to p90      budget                    last run
storm         3  1.050  1.010 to 1.200      p50 ≤ 1.010, OVER: 1.050
loss to link  3      3         2 to 80  ms  p99 ≤ 50, OVER: 80
memory        1     12                  MB  p50 ≤ 12
never ran     0      -                  ns
"
        );
    }

    #[test]
    fn of_two_builds_each_figure_says_whether_they_differ() {
        let mut figures = Figures::default();
        let builds = vec![vec![1.0, 2.0], vec![2.0, 4.0]];
        figures.of_builds("faster", builds, "ns", UNLIMITED);
        let builds = vec![vec![1.0, 2.0], vec![2.0, 1.0]];
        figures.of_builds("who knows", builds, "ns", UNLIMITED);
        figures.add("of this alone", 1.0, "ns", UNLIMITED);
        let text = text(&figures, &LastRun::default());
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| {
                line.split("  ")
                    .map(str::trim)
                    .filter(|c| !c.is_empty())
                    .collect()
            })
            .collect();
        assert_eq!(lines[0].last(), Some(&"this / other"));
        assert_eq!(lines[1][4..], ["ns", "2", "0.500"]);
        assert_eq!(lines[2].last(), Some(&"0.500 ?"));
        assert_eq!(lines[3].last(), Some(&"ns"));
    }

    #[test]
    fn a_machine_gets_the_same() {
        let json = json(&figures(), &LastRun::default(), &Machine::default());
        let figures = json["figures"].as_array().unwrap();
        assert_eq!(figures.len(), 4);
        assert_eq!(figures[1]["budget"]["holds"], false);
        assert_eq!(figures[3]["p50"], Value::Null);
    }
}
