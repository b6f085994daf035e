//! What the agents reported in each scenario, as lines of a table.

use std::{
    io::{self, Write as _},
    time::Duration,
};

/// The table; printed when it is dropped, so also when the test fails.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

struct Row {
    scenario: String,
    profile: &'static str,
    cause: String,
    /// From the event to its arrival at the Collector; none where nothing must be reported.
    after: Option<Duration>,
}

impl Table {
    pub(crate) fn add(
        &mut self,
        scenario: &str,
        profile: &'static str,
        cause: &str,
        after: Option<Duration>,
    ) {
        self.0.push(Row {
            scenario: scenario.to_owned(),
            profile,
            cause: cause.to_owned(),
            after,
        });
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let mut text = format!(
            "\n{:46}{:12}{:20}{:>9}\n",
            "scenario", "profile", "cause", "Collector"
        );
        for row in &self.0 {
            let after = row
                .after
                .map(|after| format!("{:.2} s", after.as_secs_f64()));
            text.push_str(&format!(
                "{:46}{:12}{:20}{:>9}\n",
                row.scenario,
                row.profile,
                row.cause,
                after.as_deref().unwrap_or("-")
            ));
        }
        // `eprint!` would be captured, and shown of a failed test only.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}
