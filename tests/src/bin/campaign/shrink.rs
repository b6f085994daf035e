//! A failure, reduced to one lane and one window: the faults, the activator's log, the agent's events
//! and the exports.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result};

use crate::judge::{Evidence, Violation, Window};

/// Writes it to a file in `directory`, one line for each moment; returns the file's path.
pub(crate) fn write(
    directory: &Path,
    lane: &str,
    window: &Window,
    violations: &[Violation],
    evidence: &Evidence<'_>,
) -> Result<PathBuf> {
    let mut lines: Vec<(SystemTime, String)> = Vec::new();
    for fault in &window.faults {
        let name = fault.kind.name();
        lines.push((fault.at, format!("fault      {name}")));
        lines.extend(fault.healed.map(|at| (at, format!("healed     {name}"))));
    }
    for seen in evidence.seen {
        lines.push((seen.at, format!("activator  {}", seen.text)));
    }
    for event in window.events(evidence.reported) {
        lines.push((event.known_at, format!("agent      {}", event.text)));
    }
    let mut before = &window.before.figures;
    for figures in window.exports(evidence.reported) {
        if let Some(arrived) = figures.arrived {
            lines.push((
                arrived,
                format!("Collector  {}", figures.change_from(before)),
            ));
        }
        before = figures;
    }
    lines.sort_by_key(|(at, _)| *at);

    let mut text = format!("window {} of {lane}\n", window.number);
    for violation in violations {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}: {}", violation.wrong.name(), violation.text);
    }
    for (at, line) in lines {
        // As above.
        let _ = match at.duration_since(window.start) {
            Ok(after) => writeln!(text, "{:+9.3} s  {line}", after.as_secs_f64()),
            Err(before) => writeln!(text, "{:+9.3} s  {line}", -before.duration().as_secs_f64()),
        };
    }
    let file = directory.join(format!("window-{}.txt", window.number));
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    Ok(file)
}
