//! The rules that operators use, unchanged or shortened for some acts.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use statlink_tests::deploy;
use tempfile::TempDir;

/// The rules for an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    AsTaken,
    WithoutBudget,
    Faster,
}

impl Rules {
    pub(crate) const ALL: [Self; 3] = [Self::AsTaken, Self::WithoutBudget, Self::Faster];

    /// The change to the rules, in one line.
    pub(crate) const fn said(self) -> &'static str {
        match self {
            Self::AsTaken => "rules, no mark: deploy/prometheus/rules, unchanged",
            Self::WithoutBudget => {
                "rules, mark *: unchanged but for statlink:objective, which is 0, for so many faults in a row \
                 would spend a month's budget"
            }
            Self::Faster => {
                "rules, mark †: as *, and windows, looks back and waits of 5, 10 and 15 minutes last a fifth of \
                 that"
            }
        }
    }

    /// The mark of an act's rows.
    pub(crate) const fn mark(self) -> &'static str {
        match self {
            Self::AsTaken => "",
            Self::WithoutBudget => " *",
            Self::Faster => " †",
        }
    }

    /// How many seconds a series keeps its last sample.
    pub(crate) const fn lookback(self) -> u64 {
        match self {
            Self::AsTaken | Self::WithoutBudget => 300, // Prometheus' own default
            Self::Faster => 60,
        }
    }

    /// Writes the rules.
    pub(crate) fn copy(self) -> Result<TempDir> {
        let to = TempDir::with_prefix("statlink-rules-").context("make a directory for rules")?;
        let from = deploy::prometheus().join("rules");
        let mut changes = 0;
        for file in fs::read_dir(&from).with_context(|| format!("list {}", from.display()))? {
            let file = file.context("list rules")?;
            let text = fs::read_to_string(file.path())
                .with_context(|| format!("read {}", file.path().display()))?;
            let changed = self.changed(&text);
            changes += usize::from(changed != text);
            let to = to.path().join(file.file_name());
            fs::write(&to, changed).with_context(|| format!("write {}", to.display()))?;
        }
        let expected = match self {
            Self::AsTaken => 0,
            Self::WithoutBudget => 1,
            Self::Faster => 3,
        };
        ensure!(changes == expected, "{changes} files of rules changed");
        Ok(to)
    }

    fn changed(self, rules: &str) -> String {
        let mut rules = rules.to_owned();
        if self != Self::AsTaken {
            rules = rules.replace(OBJECTIVE, "expr: vector(0)\n");
        }
        if self == Self::Faster {
            for (slow, fast) in MINUTES {
                for (before, after) in [("[", "]"), ("for: ", "\n")] {
                    let [slow, fast] = [slow, fast].map(|of| format!("{before}{of}{after}"));
                    rules = rules.replace(&slow, &fast);
                }
            }
        }
        rules
    }
}

const OBJECTIVE: &str = "expr: vector(0.999)\n";
/// Waits of minutes, and a fifth of each. An agent exports every 10 s, so no window gets too short.
const MINUTES: [(&str, &str); 3] = [("5m", "1m"), ("10m", "2m"), ("15m", "3m")];
