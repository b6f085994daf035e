//! The alerts that each fault fired, and when: judged, and as a table.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use statlink_tests::{cluster::KNATIVE, deploy, netns};

use crate::{
    place::CLUSTER,
    rules::Rules,
    watch::{Labels, Watch},
};

/// The alerts that faults can fire here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alert {
    Unreachable,
    UnreachableFromAll,
    BudgetBurnFast,
    Flapping,
    CrashLooping,
    Disagreement,
    Absent,
}

/// An alert that a fault must fire.
pub(crate) struct Expected {
    pub(crate) fault: &'static str,
    pub(crate) alert: Alert,
    /// The pod of the alert, if it has one.
    pub(crate) pod: Option<String>,
    /// The causes of which its summary must name one; empty if it names none.
    pub(crate) causes: &'static [&'static str],
    /// Within how many seconds after the beginning it must fire.
    pub(crate) within: u64,
    pub(crate) begin: Instant,
    /// From when on it may end; `None` if the fault was not healed, so that it may not end.
    pub(crate) healed: Option<Instant>,
}

/// All rows so far.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

struct Row {
    fault: String,
    alert: &'static str,
    severity: &'static str,
    /// How many alerts the row stands for: one for each pod.
    count: usize,
    within: Option<u64>,
    fired: Option<Duration>,
    over: Option<Duration>,
    wrong: Vec<String>,
}

impl Alert {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "KnativeAutoscalerUnreachable",
            Self::UnreachableFromAll => "KnativeAutoscalerUnreachableFromAll",
            Self::BudgetBurnFast => "KnativeLinkBudgetBurnFast",
            Self::Flapping => "KnativeLinkFlapping",
            Self::CrashLooping => "KnativeActivatorCrashLooping",
            Self::Disagreement => "KnativeLinkDisagreement",
            Self::Absent => "StatlinkAbsent",
        }
    }

    const fn severity(self) -> &'static str {
        match self {
            Self::UnreachableFromAll | Self::BudgetBurnFast | Self::Absent => "critical",
            Self::Unreachable | Self::Flapping | Self::CrashLooping | Self::Disagreement => {
                "warning"
            }
        }
    }

    /// All labels that it must have, and no others.
    fn labels(self, pod: Option<&str>) -> Labels {
        let keys: &[&str] = match self {
            Self::Unreachable | Self::Flapping | Self::Disagreement => {
                &["cluster", "node", "namespace", "pod", "peer"]
            }
            Self::UnreachableFromAll => &["cluster", "namespace", "peer"],
            Self::BudgetBurnFast => &["cluster", "peer", "window"],
            Self::CrashLooping => &["cluster", "namespace", "pod"],
            Self::Absent => &["cluster"],
        };
        let label = |key: &&str| match *key {
            "cluster" => ("k8s_cluster_name", CLUSTER),
            "node" => ("k8s_node_name", "node"),
            "namespace" => ("k8s_namespace_name", KNATIVE),
            "pod" => ("k8s_pod_name", pod.unwrap_or_default()),
            "window" => ("window", "1h"),
            _ => ("peer", "autoscaler"),
        };
        let always = [("alertname", self.name()), ("severity", self.severity())];
        let labels = keys.iter().map(label).chain(always);
        labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}

impl Expected {
    pub(crate) fn labels(&self) -> Labels {
        self.alert.labels(self.pod.as_deref())
    }

    pub(crate) fn has_fired(&self, watch: &Watch) -> bool {
        watch.of(&self.labels()).is_some()
    }

    /// Whether it fires long after its reason is gone: the play does not wait for its end.
    pub(crate) const fn lasts(&self) -> bool {
        matches!(self.alert, Alert::Flapping | Alert::BudgetBurnFast)
    }

    pub(crate) fn is_over(&self, watch: &Watch) -> bool {
        if self.lasts() {
            return true;
        }
        let fired = watch.of(&self.labels());
        fired.is_some_and(|fired| fired.over.is_some())
    }
}

impl Table {
    /// Judges the alerts: each expected one fired in time, with the right text, and did not end
    /// before its fault was healed; no other one fired.
    pub(crate) fn judge(&mut self, rules: Rules, expected: &[Expected], watch: &Watch) {
        let mut known = BTreeSet::new();
        for expected in expected {
            known.insert(expected.labels());
            let row = Row::of(rules, expected, watch);
            self.add(row);
        }
        self.others(rules, "of the same", &known, watch);
    }

    /// Judges a step that must fire nothing.
    pub(crate) fn judge_quiet(&mut self, rules: Rules, what: &str, watch: &Watch) {
        self.add(Row {
            fault: format!("{what}{}", rules.mark()),
            alert: "none",
            severity: "",
            count: 1,
            within: None,
            fired: None,
            over: None,
            wrong: Vec::new(),
        });
        self.others(rules, what, &BTreeSet::new(), watch);
    }

    /// Notes an act that failed before its end.
    pub(crate) fn broke(&mut self, rules: Rules, error: &str) {
        self.wrong(rules, "an act", error.to_owned());
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    fn others(&mut self, rules: Rules, what: &str, known: &BTreeSet<Labels>, watch: &Watch) {
        let others = watch
            .fired()
            .keys()
            .filter(|labels| !known.contains(*labels));
        for labels in others {
            self.wrong(rules, what, format!("not expected: {labels:?}"));
        }
    }

    fn wrong(&mut self, rules: Rules, fault: &str, wrong: String) {
        self.0.push(Row {
            fault: format!("{fault}{}", rules.mark()),
            alert: "-",
            severity: "",
            count: 1,
            within: None,
            fired: None,
            over: None,
            wrong: vec![wrong],
        });
    }

    /// Alerts of one fault that differ only in their pod share one row, with the slowest of them.
    fn add(&mut self, row: Row) {
        let same = self
            .0
            .last_mut()
            .filter(|last| (&last.fault, last.alert) == (&row.fault, row.alert));
        match same {
            Some(last) => {
                last.count += 1;
                last.fired = last.fired.max(row.fired);
                last.over = last.over.max(row.over);
                last.wrong.extend(row.wrong);
            }
            None => self.0.push(row),
        }
    }

    pub(crate) fn is_right(&self) -> bool {
        self.0.iter().all(|row| row.wrong.is_empty())
    }

    /// The table for a terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{:<64}{:<40}{:>9}{:>9}{:>9}\n",
            "fault", "alert", "fires", "at most", "over"
        );
        for row in &self.0 {
            text.push_str(&format!(
                "{:<64}{:<40}{:>9}{:>9}{:>9}\n",
                row.fault,
                row.alert(),
                seconds(row.fired),
                row.within
                    .map_or_else(String::new, |within| format!("{within} s")),
                seconds(row.over)
            ));
            for wrong in &row.wrong {
                text.push_str(&format!("    WRONG: {wrong}\n"));
            }
        }
        text
    }

    /// Writes the rows into the document, with the date: rows of the same faults are replaced,
    /// others stay.
    pub(crate) fn write(&self) -> Result<()> {
        let path = deploy::prometheus().join("README.md");
        let document =
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let (before, rest) = document
            .split_once(BEGIN)
            .context("no begin of the table")?;
        let (old, after) = rest.split_once(END).context("no end of the table")?;
        let day = netns::run(Command::new("date").args(["--utc", "+%F"]))?;
        let table = self.markdown(old, day.trim());
        let document = format!("{before}{BEGIN}\n{table}{END}{after}");
        fs::write(&path, document).with_context(|| format!("write {}", path.display()))
    }

    fn markdown(&self, old: &str, day: &str) -> String {
        let is_mine = |line: &&str| {
            let fault = line.trim_start_matches("| ").split(" | ").next();
            self.0.iter().any(|row| fault == Some(row.fault.as_str()))
        };
        let lines = old.lines().filter(|line| line.starts_with("| "));
        let others = lines.skip(1).filter(|line| !is_mine(line));
        let mut text = String::from(HEAD);
        for line in others {
            text.push_str(line);
            text.push('\n');
        }
        for row in &self.0 {
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} | {} | {day} |\n",
                row.fault,
                row.alert(),
                row.severity,
                seconds(row.fired),
                row.within
                    .map_or_else(String::new, |within| format!("{within} s")),
                seconds(row.over)
            ));
        }
        text
    }
}

impl Row {
    fn of(rules: Rules, expected: &Expected, watch: &Watch) -> Self {
        let mut wrong = Vec::new();
        let name = expected.alert.name();
        let found = watch.of(&expected.labels());
        let mut say = |what: String| wrong.push(what);
        let fired = found.map(|found| found.at.duration_since(expected.begin));
        match fired {
            Some(fired) if fired <= Duration::from_secs(expected.within) => {}
            Some(_) => say("late".to_owned()),
            None => say(format!("{:?} did not fire", expected.labels())),
        }
        let over = found.and_then(|found| found.over);
        if over.is_none() && !expected.lasts() {
            say("it was not over after the fault was".to_owned());
        }
        if over.is_some_and(|over| expected.healed.is_none_or(|healed| over < healed)) {
            say("it was over before the fault was".to_owned());
        }
        if let Some(found) = found {
            let words = |key: &str| found.annotations.get(key).map_or("", String::as_str);
            let summary = words("summary");
            if !summary.contains(expected.pod.as_deref().unwrap_or_default()) {
                say(format!("the summary does not name the pod: {summary}"));
            }
            let names = |cause: &&str| summary.contains(*cause);
            if !expected.causes.is_empty() && !expected.causes.iter().any(names) {
                say(format!("not one of {:?}: {summary}", expected.causes));
            }
            if !words("runbook_url").ends_with(&format!("#{}", name.to_lowercase())) {
                say(format!("runbook_url: {}", words("runbook_url")));
            }
        }
        Self {
            fault: format!("{}{}", expected.fault, rules.mark()),
            alert: name,
            severity: expected.alert.severity(),
            count: 1,
            within: Some(expected.within),
            fired,
            over: over.and_then(|over| over.checked_duration_since(expected.healed?)),
            wrong,
        }
    }

    fn alert(&self) -> String {
        match self.count {
            1 => self.alert.to_owned(),
            count => format!("{} ({count})", self.alert),
        }
    }
}

fn seconds(duration: Option<Duration>) -> String {
    duration.map_or_else(String::new, |duration| {
        format!("{:.0} s", duration.as_secs_f64())
    })
}

const HEAD: &str = "\
| fault | alert | severity | fires after | at most | over after | on |
|---|---|---|---|---|---|---|
";
const BEGIN: &str = "<!-- alerts:begin -->";
const END: &str = "<!-- alerts:end -->";
