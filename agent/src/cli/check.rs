//! `statlink check`.

use std::io::{self, Write};

use anyhow::Context as _;
use serde::Serialize;

use super::exit::{DONE, FAILED, UNSUPPORTED};
use crate::{
    kernel::tracefs,
    options::Options,
    preflight::{self, Finding, Verdict},
    terminal::{printable, write_json},
};

/// The shape of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    version: &'static str,
    /// Whether nothing failed and nothing is unsupported.
    ok: bool,
    findings: &'a [Finding],
}

/// Checks, prints the findings, and returns the exit code.
///
/// # Errors
///
/// If the runtime cannot be started or standard output cannot be written. A bad finding is not an
/// error.
pub(super) fn run(options: &Options, json: bool) -> anyhow::Result<u8> {
    let tracefs = tracefs::show();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let findings = runtime.block_on(preflight::check(options, &tracefs));
    let worst = findings.iter().map(|finding| finding.verdict).max();
    let code = match worst {
        None | Some(Verdict::Ok | Verdict::Warning) => DONE,
        Some(Verdict::Failed) => FAILED,
        Some(Verdict::Unsupported) => UNSUPPORTED,
    };
    let mut out = io::stdout().lock();
    if json {
        let document = Document {
            version: env!("CARGO_PKG_VERSION"),
            ok: code == DONE,
            findings: &findings,
        };
        write_json(&mut out, &serde_json::to_string_pretty(&document)?)?;
    } else {
        text(&mut out, &findings)?;
    }
    Ok(code)
}

pub(super) fn text(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    let width = findings.iter().map(|finding| finding.subject.len()).max();
    let width = width.unwrap_or_default();
    for finding in findings {
        let Finding {
            subject, detail, ..
        } = finding;
        let (subject, detail) = (printable(subject), printable(detail));
        let word = word(finding.verdict);
        writeln!(out, "{word:<7}  {subject:<width$}  {detail}")?;
        if let Some(cure) = &finding.cure {
            let (purpose, cure) = (printable(&finding.purpose), printable(cure));
            writeln!(out, "{:<7}  {:<width$}  needed to: {purpose}", "", "")?;
            writeln!(out, "{:<7}  {:<width$}  cure: {cure}", "", "")?;
        }
        if let Some(runbook) = &finding.runbook {
            let runbook = printable(runbook);
            writeln!(out, "{:<7}  {:<width$}  runbook: {runbook}", "", "")?;
        }
    }
    let count = |verdict| {
        let of = |finding: &&Finding| finding.verdict == verdict;
        findings.iter().filter(of).count()
    };
    writeln!(
        out,
        "\n{} ok, {} warnings, {} failed",
        count(Verdict::Ok),
        count(Verdict::Warning),
        count(Verdict::Failed) + count(Verdict::Unsupported)
    )
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failed | Verdict::Unsupported => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_or_a_server_said_cannot_write_to_the_terminal() {
        let finding: Finding = serde_json::from_value(serde_json::json!({
            "subject": "Kubernetes pods",
            "verdict": "failed",
            "purpose": "name activators",
            "detail": "\u{1b}[2J\nok       everything",
            "cure": "\u{202e}",
        }))
        .unwrap();
        let mut out = Vec::new();
        text(&mut out, &[finding]).unwrap();
        let shown = String::from_utf8(out).unwrap();
        let expected = r"FAILED   Kubernetes pods  \u{1b}[2J\nok       everything";
        assert_eq!(shown.lines().next(), Some(expected));
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
    }
}
