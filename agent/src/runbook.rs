//! Links to the runbooks and documents for operators, by subject.

use crate::link::Cause;

/// The section of the runbook about a cause.
pub(crate) fn of_cause(cause: Cause) -> String {
    // As GitHub makes anchors of headings.
    format!(
        "{HOME}/runbooks/causes.md#{}",
        cause.as_str().to_lowercase()
    )
}

/// The section about agents that do not report.
pub(crate) const AGENT_SILENT: Page = Page("runbooks/alerts.md#statlinkagentsilent");
/// The section about links that come and go.
pub(crate) const FLAPPING: Page = Page("runbooks/alerts.md#knativelinkflapping");
/// The section about activators with an unknown state.
pub(crate) const UNOBSERVED: Page = Page("runbooks/alerts.md#knativelinkunobserved");
/// The section about an agent that does not start.
pub(crate) const DOES_NOT_START: Page = Page("docs/troubleshooting.md#the-pod-does-not-start");
/// The section about an agent that does not become ready.
pub(crate) const NOT_READY: Page = Page("docs/troubleshooting.md#the-pod-runs-and-is-not-ready");
/// The section about an activator that has no link.
pub(crate) const NO_LINK: Page = Page("docs/troubleshooting.md#there-is-no-link");
/// The section about metrics that do not reach the Collector.
pub(crate) const NO_SERIES: Page = Page("docs/troubleshooting.md#there-is-a-link-and-no-series");
/// The section about hooks that are not attached and records that were lost.
pub(crate) const INCOMPLETE: Page =
    Page("docs/troubleshooting.md#something-is-missing-in-what-it-reports");

/// A section, below the directory of operators' files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page(&'static str);

impl Page {
    /// Its address.
    pub(crate) fn url(self) -> String {
        format!("{HOME}/{}", self.0)
    }
}

/// The alerts link to the same address.
const HOME: &str = "https://github.com/statlink/statlink/blob/main/deploy";

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Whether a document of `deploy` has the section.
    fn exists(url: &str) -> bool {
        let (file, anchor) = url
            .strip_prefix(HOME)
            .and_then(|rest| rest.split_once('#'))
            .unwrap();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let text = fs::read_to_string(deploy.join(file.trim_start_matches('/'))).unwrap();
        let headings = text.lines().filter_map(|line| line.strip_prefix("##"));
        let anchors = headings.map(|heading| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = words
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        });
        anchors.into_iter().any(|existing| existing == anchor)
    }

    #[test]
    fn every_cause_has_its_section() {
        for cause in Cause::ALL {
            let url = of_cause(cause);
            assert!(exists(&url), "{url}");
        }
        assert!(!exists(&format!("{HOME}/runbooks/causes.md#another")));
    }

    #[test]
    fn every_page_has_its_section() {
        for page in [
            AGENT_SILENT,
            FLAPPING,
            UNOBSERVED,
            DOES_NOT_START,
            NOT_READY,
            NO_LINK,
            NO_SERIES,
            INCOMPLETE,
        ] {
            assert!(exists(&page.url()), "{}", page.url());
        }
    }
}
