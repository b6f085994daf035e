//! The agent's reports: its exports at the Collector, and its own stream of events.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use statlink_tests::{
    collector::Export,
    process::{Line, Process},
};

use crate::figures::Figures;

/// Everything that one agent reported about one activator's link.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    /// Each export that changed something, oldest first.
    pub(crate) exports: Vec<Figures>,
    pub(crate) events: Vec<Event>,
    /// When the agent made the newest export with this link, changed or not. It may have arrived
    /// much later.
    made: Option<SystemTime>,
}

/// One line of `statlink events`.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) at: SystemTime,
    pub(crate) known_at: SystemTime,
    pub(crate) what: String,
    pub(crate) cause: Option<String>,
    /// The cause is the failure of a proxy's connection in the pod.
    pub(crate) proxy: bool,
    pub(crate) text: String,
}

/// Everything that one agent reported, by pod.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    of: BTreeMap<String, Reported>,
    events_read: usize,
    exports: u64,
    /// When the agent made the newest export.
    made: Option<SystemTime>,
    /// When the agent made the exports of the last second: a busy machine may deliver several at
    /// once.
    recent: Vec<SystemTime>,
    /// The most exports in one second.
    pub(crate) busiest_second: usize,
    /// Rules that an export broke, in words.
    pub(crate) broken: Vec<String>,
    /// How many outages the agent reported.
    pub(crate) onsets: u64,
}

impl Ledger {
    /// A new agent's counters begin at 0. It was started at `since`; exports of the one before may
    /// still arrive.
    pub(crate) fn new_agent(&mut self, since: SystemTime) {
        self.of.clear();
        self.events_read = 0;
        self.made = Some(since);
        // The limit of exports a second applies to each agent.
        self.recent.clear();
    }

    pub(crate) fn of(&self, pod: &str) -> &Reported {
        static NOTHING: Reported = Reported {
            exports: Vec::new(),
            events: Vec::new(),
            made: None,
        };
        self.of.get(pod).unwrap_or(&NOTHING)
    }

    /// What was reported about each pod.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Reported)> {
        self.of
            .iter()
            .map(|(pod, reported)| (pod.as_str(), reported))
    }

    /// Whether the newest export has this pod.
    pub(crate) fn is_in_newest_export(&self, pod: &str) -> bool {
        let reported = self.of.get(pod);
        reported.is_some_and(|reported| reported.made.is_some() && reported.made == self.made)
    }

    /// When the newest export of metrics was made.
    pub(crate) const fn made(&self) -> Option<SystemTime> {
        self.made
    }

    /// Exports of metrics so far.
    pub(crate) const fn exports(&self) -> u64 {
        self.exports
    }

    pub(crate) fn read_events(&mut self, process: &Process) {
        let lines = process.lines_after(self.events_read);
        self.events_read += lines.len();
        for line in &lines {
            if line.get("missed").is_u64() {
                self.broken.push(format!("events: {}", line.text));
            }
            if let (Some(pod), Some(event)) = (line.get("pod").as_str(), event(line)) {
                self.onsets += u64::from(event.what == UNREACHABLE && is_own(pod));
                let reported = self.of.entry(pod.to_owned()).or_default();
                reported.events.push(event);
            }
        }
    }

    pub(crate) fn read_exports(&mut self, exports: Vec<Export>) {
        for export in exports.iter().filter(|export| !export.points.is_empty()) {
            self.exports += 1;
            let Some(made) = export.points.iter().map(|point| point.time).max() else {
                continue;
            };
            // The exporter gives up on a slow export, which may still arrive after its successor.
            if self.made.is_some_and(|newest| made < newest) {
                continue;
            }
            self.made = Some(made);
            self.recent.push(made);
            self.recent.retain(|at| {
                let age = made.duration_since(*at);
                age.map_or(true, |age| age < Duration::from_secs(1))
            });
            self.busiest_second = self.busiest_second.max(self.recent.len());
            for (pod, figures) in Figures::of(export) {
                self.take(&pod, figures, made);
            }
        }
    }

    fn take(&mut self, pod: &str, figures: Figures, made: SystemTime) {
        let reported = self.of.entry(pod.to_owned()).or_default();
        reported.made = Some(made);
        let broken = figures.broken(reported.exports.last());
        let broken = broken.iter().map(|broken| format!("{pod}: {broken}"));
        self.broken.extend(broken);
        match reported.exports.last_mut() {
            Some(before) if before.says_the_same(&figures) => before.confirmed = figures.confirmed,
            Some(_) | None => reported.exports.push(figures),
        }
    }
}

impl Reported {
    pub(crate) fn newest(&self) -> Figures {
        self.exports.last().cloned().unwrap_or_default()
    }

    /// When the newest export with this link was made.
    pub(crate) const fn made(&self) -> Option<SystemTime> {
        self.made
    }
}

fn event(line: &Line) -> Option<Event> {
    let moment = |field| {
        let seconds = line.get(field).as_f64()?;
        Some(SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(seconds).ok()?)
    };
    Some(Event {
        at: moment("at")?,
        known_at: moment("known_at")?,
        what: line.event()?.to_owned(),
        cause: line.get("cause").as_str().map(str::to_owned),
        proxy: line.get("hop_address").is_string(),
        text: line.text.clone(),
    })
}

/// An outage began, or its cause became known.
pub(crate) const UNREACHABLE: &str = "unreachable";
pub(crate) const REACHABLE: &str = "reachable";
pub(crate) const DISCONNECTED: &str = "disconnected";
pub(crate) const CONNECTED: &str = "connected";
pub(crate) const CONNECT_FAILED: &str = "connect_failed";
pub(crate) const STALLED: &str = "stalled";

/// At most five a second; six fit into a second that is measured at the receiving end.
pub(crate) const EXPORTS_A_SECOND: usize = 6;

/// The messages of an agent's log about itself and about the pods of this campaign. Other test beds
/// on the machine have activators too: the agent logs them, or says that they are in another
/// namespace.
pub(crate) fn own_log_lines(process: &Process) -> Vec<String> {
    let lines = process.lines();
    let own = lines.iter().filter(|line| {
        let pod = line.get("k8s.pod.name").as_str();
        pod.is_none_or(is_own) && !is_of_another_namespace(&line.text)
    });
    let message = |line: &Line| match (line.get("message").as_str(), line.get("error").as_str()) {
        (Some(message), Some(error)) => format!("{message} {error}"),
        (Some(message), None) => message.to_owned(),
        (None, _) => line.text.clone(),
    };
    own.map(message).collect()
}

/// Whether this process named the pod: its name contains the process's id.
fn is_own(pod: &str) -> bool {
    pod.contains(&format!("-{}-", std::process::id()))
}

/// Whether a text names the namespace of another test bed.
fn is_of_another_namespace(text: &str) -> bool {
    let own = format!("{}-", std::process::id());
    let mut namespaces = text.split("knative-serving-").skip(1);
    namespaces.any(|rest| {
        rest.starts_with(|first: char| first.is_ascii_digit()) && !rest.starts_with(&own)
    })
}
