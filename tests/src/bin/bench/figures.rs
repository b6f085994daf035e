//! Measured figures beside their budgets.

use serde_json::{Map, Value, json};

use crate::statistics::{Comparison, Samples};

/// Figures in the order of measurement.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

/// One measured figure, of one build or of two.
#[derive(Debug)]
pub(crate) struct Figure {
    /// Its name, which is the same in every run: runs are compared by it.
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) budget: Option<Budget>,
    /// Of this build.
    pub(crate) this: Samples,
    /// Of the one that `--vs` names.
    pub(crate) other: Option<Samples>,
}

/// The most that a figure may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Budget {
    pub(crate) most: f64,
    /// The part of the measurements to which it applies.
    pub(crate) of: Part,
}

/// A part of several measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The median.
    P50,
    /// For promises about each single event.
    P99,
}

/// No budget.
pub(crate) const UNLIMITED: Option<Budget> = None;

/// The median is at most this.
pub(crate) const fn at_most(most: f64) -> Option<Budget> {
    Some(Budget {
        most,
        of: Part::P50,
    })
}

/// Nearly every measurement is at most this.
pub(crate) const fn each_at_most(most: f64) -> Option<Budget> {
    Some(Budget {
        most,
        of: Part::P99,
    })
}

impl Figures {
    /// A single value.
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        budget: Option<Budget>,
    ) {
        self.several(what, vec![value], unit, budget);
    }

    /// Several measurements of one thing.
    pub(crate) fn several(
        &mut self,
        what: impl Into<String>,
        values: Vec<f64>,
        unit: &'static str,
        budget: Option<Budget>,
    ) {
        self.of_builds(what, vec![values], unit, budget);
    }

    /// Several measurements of each build: this one, and the other if there is one.
    pub(crate) fn of_builds(
        &mut self,
        what: impl Into<String>,
        values: Vec<Vec<f64>>,
        unit: &'static str,
        budget: Option<Budget>,
    ) {
        let mut builds = values.into_iter().map(Samples::from);
        let figure = Figure {
            what: what.into(),
            unit,
            budget,
            this: builds.next().unwrap_or_default(),
            other: builds.next(),
        };
        eprintln!(
            "    {}: {} {}",
            figure.what,
            figure.this.median().map_or_else(|| "-".to_owned(), number),
            figure.unit
        );
        self.0.push(figure);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Figure> {
        self.0.iter()
    }
}

impl Figure {
    /// Whether it keeps its budget; `None` without a budget or a measurement.
    pub(crate) fn holds(&self) -> Option<bool> {
        let Budget { most, of } = self.budget?;
        Some(self.this.quantile(of.quantile())? <= most)
    }

    pub(crate) fn comparison(&self) -> Option<Comparison> {
        self.this.beside(self.other.as_ref()?)
    }

    /// All that is known about it; a missing budget or other build is left out.
    pub(crate) fn json(&self) -> Map<String, Value> {
        let mut json = summary(&self.this);
        json.insert("figure".to_owned(), self.what.as_str().into());
        json.insert("unit".to_owned(), self.unit.into());
        if let Some(Budget { most, of }) = self.budget {
            let budget = json!({ "most": most, "of": of.name(), "holds": self.holds() });
            json.insert("budget".to_owned(), budget);
        }
        if let Some(other) = &self.other {
            let mut other = summary(other);
            if let Some(Comparison { ratio, is_clear }) = self.comparison() {
                other.insert("ratio".to_owned(), ratio.into());
                other.insert("is_clear".to_owned(), is_clear.into());
            }
            json.insert("other".to_owned(), other.into());
        }
        json
    }
}

impl Part {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
        }
    }

    pub(crate) const fn quantile(self) -> f64 {
        match self {
            Self::P50 => 0.5,
            Self::P99 => 0.99,
        }
    }
}

fn summary(samples: &Samples) -> Map<String, Value> {
    let quantiles = [("p10", 0.1), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];
    let quantiles = quantiles.map(|(name, q)| (name.to_owned(), samples.quantile(q).into()));
    let count = ("n".to_owned(), samples.len().into());
    std::iter::once(count).chain(quantiles).collect()
}

/// Three significant digits; whole numbers stay whole.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || (value.fract() == 0.0 && size >= 1.0) {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(values: &[f64], budget: Option<Budget>) -> Figure {
        Figure {
            what: "time".to_owned(),
            unit: "ms",
            budget,
            this: values.to_vec().into(),
            other: None,
        }
    }

    #[test]
    fn a_budget_holds_for_the_part_that_it_names() {
        let mut values = vec![1.0; 99];
        values.extend([100.0; 2]);
        assert_eq!(figure(&values, at_most(1.0)).holds(), Some(true));
        assert_eq!(figure(&values, at_most(0.9)).holds(), Some(false));
        assert_eq!(figure(&values, each_at_most(1.0)).holds(), Some(false));
        assert_eq!(figure(&values, UNLIMITED).holds(), None);
        assert_eq!(figure(&[], at_most(1.0)).holds(), None);
    }

    #[test]
    fn numbers_have_three_digits_that_mean_something() {
        let numbers = [1234.4, 45.67, 1.0561, 0.0254, 12.0, 0.0, -5.25];
        let expected = ["1234", "45.7", "1.056", "0.025", "12", "0.000", "-5.250"];
        assert_eq!(numbers.map(number), expected);
    }

    #[test]
    fn a_machine_gets_every_figure_with_its_budget_and_the_other_build() {
        let mut figure = figure(&[2.0, 1.0, 3.0], each_at_most(2.5));
        figure.other = Some(vec![4.0, 2.0, 6.0].into());
        assert_eq!(
            Value::from(figure.json()),
            json!({
                "figure": "time", "unit": "ms", "n": 3, "p10": 1.0, "p50": 2.0, "p90": 3.0, "p99": 3.0,
                "budget": { "most": 2.5, "of": "p99", "holds": false },
                "other": {
                    "n": 3, "p10": 2.0, "p50": 4.0, "p90": 6.0, "p99": 6.0, "ratio": 0.5, "is_clear": true,
                },
            })
        );
    }
}
