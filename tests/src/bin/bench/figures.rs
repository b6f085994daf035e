//! What was measured, beside what was promised.

use std::fmt;

use statlink_tests::observe::quantile;

/// Figures in the order of measurement.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

#[derive(Debug)]
struct Figure {
    what: String,
    value: String,
    unit: &'static str,
    budget: &'static str,
}

impl Figures {
    /// A single value; no budget is an empty one.
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        budget: &'static str,
    ) {
        self.push(what.into(), number(value), unit, budget);
    }

    /// The median of several.
    pub(crate) fn median(
        &mut self,
        what: &str,
        mut values: Vec<f64>,
        unit: &'static str,
        budget: &'static str,
    ) {
        let value = quantile(&mut values, 0.5).map_or_else(|| "-".to_owned(), number);
        self.push(
            format!("{what} (p50 of {})", values.len()),
            value,
            unit,
            budget,
        );
    }

    /// Median and 99th percentile of several; the budget is the latter's.
    pub(crate) fn spread(
        &mut self,
        what: &str,
        mut values: Vec<f64>,
        unit: &'static str,
        budget: &'static str,
    ) {
        let mut at = |q| quantile(&mut values, q).map_or_else(|| "-".to_owned(), number);
        let value = format!("{} / {}", at(0.5), at(0.99));
        self.push(
            format!("{what} (p50 / p99 of {})", values.len()),
            value,
            unit,
            budget,
        );
    }

    fn push(&mut self, what: String, value: String, unit: &'static str, budget: &'static str) {
        println!("    {what}: {value} {unit}");
        self.0.push(Figure {
            what,
            value,
            unit,
            budget,
        });
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<56}{:>20} {:<12} budget", "figure", "measured", "")?;
        for figure in &self.0 {
            let Figure {
                what,
                value,
                unit,
                budget,
            } = figure;
            writeln!(f, "{what:<56}{value:>20} {unit:<12} {budget}")?;
        }
        Ok(())
    }
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}
