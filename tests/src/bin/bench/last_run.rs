//! The last committed run, to which each figure is compared besides its budget.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::{figures::Figures, machine::Machine};

/// The medians of a former run, by figure.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LastRun(BTreeMap<String, f64>);

impl LastRun {
    /// Reads the committed run; empty if there is none.
    pub(crate) fn read() -> Result<Self> {
        let path = path();
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no run of the bench", path.display()))
    }

    pub(crate) fn of(&self, figure: &str) -> Option<f64> {
        self.0.get(figure).copied()
    }

    fn parse(text: &str) -> Result<Self> {
        let run: Value = serde_json::from_str(text)?;
        let figures = run.get("figures").and_then(Value::as_object);
        let figures = figures.context("there are no figures in it")?;
        let of =
            |(name, value): (&String, &Value)| Some((name.clone(), value.get("p50")?.as_f64()?));
        Ok(Self(figures.iter().filter_map(of).collect()))
    }
}

/// Replaces the last run by this one. Figures that were not measured are removed: figures of two
/// machines or days must not look like one run.
pub(crate) fn save(figures: &Figures, machine: &Machine) -> Result<()> {
    let path = path();
    let text = format!("{:#}\n", run(figures, machine));
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    eprintln!("saved in {}", path.display());
    Ok(())
}

fn run(figures: &Figures, machine: &Machine) -> Value {
    let figures = figures.iter().map(|figure| {
        let spread = figure.this.spread();
        let value = json!({
            "n": figure.this.len(),
            "p10": spread.map(|(low, _)| low),
            "p50": figure.this.median(),
            "p90": spread.map(|(_, high)| high),
            "unit": figure.unit,
        });
        (figure.what.clone(), value)
    });
    json!({ "machine": machine.json(), "figures": figures.collect::<Map<_, _>>() })
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(FILE)
}

const FILE: &str = "bench/baseline.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::UNLIMITED;

    #[test]
    fn what_is_saved_is_read_again() {
        let mut figures = Figures::default();
        figures.several("storm", vec![1.0, 3.0, 2.0], "ns", UNLIMITED);
        figures.several("never measured", vec![], "ns", UNLIMITED);
        let text = run(&figures, &Machine::default()).to_string();
        let last = LastRun::parse(&text).unwrap();
        assert_eq!(last.of("storm"), Some(2.0));
        assert_eq!(last.of("never measured"), None);
        assert_eq!(last.of("another"), None);
    }

    #[test]
    fn what_is_no_run_is_an_error() {
        assert!(LastRun::parse("{}").is_err());
        assert!(LastRun::parse("").is_err());
    }
}
