//! The closing table.

use std::{fmt::Write as _, time::Duration};

/// Who noticed one trouble, and when.
pub(crate) struct Row {
    pub(crate) trouble: &'static str,
    pub(crate) expected: &'static str,
    pub(crate) cause: String,
    pub(crate) agent: Duration,
    pub(crate) collector: Duration,
    pub(crate) knative: Option<Duration>,
}

/// The table, aligned, times in seconds.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<13}{:<20}{:>11}{:>11}{:>14}\n",
        "trouble", "cause", "statlink", "Collector", "Knative ≥1.21"
    );
    for row in rows {
        let cause = if row.cause == row.expected {
            row.cause.clone()
        } else {
            format!("{} (!)", row.cause)
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<13}{cause:<20}{:>9.3} s{:>9.3} s{:>14}",
            row.trouble,
            row.agent.as_secs_f64(),
            row.collector.as_secs_f64(),
            row.knative.map_or_else(
                || "not noticed".to_owned(),
                |after| format!("{:.3} s", after.as_secs_f64())
            ),
        );
    }
    text
}
