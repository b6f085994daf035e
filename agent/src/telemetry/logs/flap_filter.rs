//! Which events of a link are logged, so that its log stays readable.
//!
//! Pure: events and the time go in, log entries come out. An outage has two entries, one at each
//! end. After [`LOGGED_EACH`] outages within a minute the link is flapping: then one summary a
//! minute replaces the entries, until no outage ends for a minute.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    link::Cause,
    link_event::{EndedOutage, EventKind},
    time::Timestamp,
};

/// One thing to log about a link.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LogEntry {
    /// An event, new or held back for a while.
    Event(EventKind),
    /// From here on, summaries replace the outages' own entries.
    Flapping,
    /// The summary of one minute of flapping.
    Summary(FlapSummary),
    /// The link no longer flaps: no outage ended for a minute and none is under way.
    Settled,
}

/// The summary of a period of flapping.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FlapSummary {
    /// How long the period is.
    pub length: Duration,
    /// Number of outages that ended in it, by the cause at their onset.
    pub outages: BTreeMap<Cause, u64>,
    /// Sum of their durations.
    pub unreachable: Duration,
    /// Sum of their errors.
    pub errors: u64,
    /// Whether an outage is under way at the end of the period.
    pub under_way: bool,
}

/// Decides what to log about one link.
#[derive(Clone, Debug, Default)]
pub(crate) struct FlapFilter {
    /// The outage under way.
    outage: Option<Onset>,
    /// Until then, the outage's entry waits for its cause to become known.
    waits_until: Option<Timestamp>,
    /// Whether the link was reachable before. If so, an outage begins with a loss, whose cause is
    /// known at once.
    was_reachable: bool,
    /// When the last outages with an entry of their own began.
    logged: VecDeque<Timestamp>,
    flapping: Option<Flapping>,
}

/// How an outage began.
#[derive(Clone, Debug)]
struct Onset {
    /// The newest event about the outage.
    event: EventKind,
    logged: bool,
}

/// The flapping since the last summary.
#[derive(Clone, Debug)]
struct Flapping {
    since: Timestamp,
    summary: FlapSummary,
}

/// How many outages within a minute have their own entries. A restart of the autoscaler gives a
/// link one outage, and a rolling update of its two replicas usually two. Four in a minute are a
/// condition rather than incidents, and one summary says more than their lines.
const LOGGED_EACH: usize = 3;
/// How often flapping is summed up, and how long it must stop to be over. One line a minute shows
/// that it continues, and floods no log.
const MINUTE: Duration = Duration::from_secs(60);
/// How long an outage at the start waits for its cause. A client without an attempt for 20 s has
/// the cause `no_attempt`; the liveness check that finds it comes at most 5 s later.
const LOG_WAITS: Duration = Duration::from_secs(25);

impl FlapFilter {
    /// Applies an event that became known at `now`; returns what to log.
    pub(crate) fn apply(&mut self, now: Timestamp, event: &EventKind) -> Vec<LogEntry> {
        match event {
            EventKind::Unreachable { .. } => self.unreachable(now, event),
            EventKind::Reachable { outage, .. } => self.reachable(outage.as_ref(), event),
            EventKind::Unknown { .. } => self.unknown(event),
            EventKind::Idle => self.idle(event),
            EventKind::Ended => {
                let held_back = self.flush(now);
                held_back.into_iter().chain([entry(event)]).collect()
            }
            EventKind::Discovered
            | EventKind::Connected { .. }
            | EventKind::ConnectFailed(_)
            | EventKind::Disconnected { .. } => vec![entry(event)],
        }
    }

    /// When [`on_deadline`](Self::on_deadline) is due.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let summary = self.flapping.as_ref();
        let summary = summary.map(|flapping| flapping.since + MINUTE);
        self.waits_until.into_iter().chain(summary).min()
    }

    /// Returns what to log at `now`. A call before the deadline returns nothing.
    pub(crate) fn on_deadline(&mut self, now: Timestamp) -> Option<LogEntry> {
        if self.waits_until.take_if(|until| *until <= now).is_some() {
            return self.outage.as_mut().and_then(Onset::log_once);
        }
        let flapping = self.flapping.as_ref()?;
        if now < flapping.since + MINUTE {
            return None;
        }
        if let Some(summary) = self.take_summary(now) {
            return Some(LogEntry::Summary(summary));
        }
        self.flapping = None;
        self.logged.clear();
        match &mut self.outage {
            Some(onset) => onset.log_once(),
            None => Some(LogEntry::Settled),
        }
    }

    /// Returns what was held back, and starts over: no more events follow for this link.
    pub(crate) fn flush(&mut self, now: Timestamp) -> Vec<LogEntry> {
        let held = self.waits_until.take().and(self.outage.as_mut());
        let held = held.and_then(Onset::log_once);
        let summary = self.take_summary(now).map(LogEntry::Summary);
        *self = Self::default();
        held.into_iter().chain(summary).collect()
    }

    /// An outage began, or the cause of the one under way became known.
    fn unreachable(&mut self, now: Timestamp, event: &EventKind) -> Vec<LogEntry> {
        if let Some(onset) = &mut self.outage {
            onset.event = event.clone();
            let held = self.waits_until.take();
            return held.and_then(|_| onset.log_once()).into_iter().collect();
        }
        let onset = self.outage.insert(Onset {
            event: event.clone(),
            logged: false,
        });
        if self.flapping.is_some() {
            return Vec::new();
        }
        self.logged
            .retain(|began| now.saturating_since(*began) < MINUTE);
        if self.logged.len() >= LOGGED_EACH {
            self.flapping = Some(Flapping {
                since: now,
                summary: FlapSummary::default(),
            });
            let last = onset.log_once();
            return last.into_iter().chain([LogEntry::Flapping]).collect();
        }
        self.logged.push_back(now);
        if !self.was_reachable && is_unexplained(event) {
            self.waits_until = Some(now + LOG_WAITS);
            return Vec::new();
        }
        onset.log_once().into_iter().collect()
    }

    fn reachable(&mut self, outage: Option<&EndedOutage>, event: &EventKind) -> Vec<LogEntry> {
        self.was_reachable = true;
        let held = self.end_outage();
        let (Some(flapping), Some(outage)) = (&mut self.flapping, outage) else {
            return held.into_iter().chain([entry(event)]).collect();
        };
        let summary = &mut flapping.summary;
        *summary.outages.entry(outage.cause).or_default() += 1;
        summary.unreachable += outage.duration;
        summary.errors += outage.errors;
        Vec::new()
    }

    /// Idle ends an outage without a recovery: this is its last entry.
    fn idle(&mut self, event: &EventKind) -> Vec<LogEntry> {
        self.was_reachable = false;
        let held = self.end_outage();
        if self.flapping.is_some() {
            return Vec::new();
        }
        held.into_iter().chain([entry(event)]).collect()
    }

    /// The link's state is unknown now. That is logged even while the link flaps, and an outage
    /// that continues afterwards gets a new entry.
    fn unknown(&mut self, event: &EventKind) -> Vec<LogEntry> {
        self.was_reachable = false;
        let held = self.end_outage();
        held.into_iter().chain([entry(event)]).collect()
    }

    /// Ends the outage under way; returns its first entry if that was held back.
    fn end_outage(&mut self) -> Option<LogEntry> {
        let mut onset = self.outage.take();
        let held = self.waits_until.take().and(onset.as_mut());
        held.and_then(Onset::log_once)
    }

    /// The summary since the last one, if an outage has ended since.
    fn take_summary(&mut self, now: Timestamp) -> Option<FlapSummary> {
        let flapping = self.flapping.as_mut()?;
        let length = now.saturating_since(flapping.since);
        flapping.since = now;
        let summary = std::mem::take(&mut flapping.summary);
        (!summary.outages.is_empty()).then(|| FlapSummary {
            length,
            under_way: self.outage.is_some(),
            ..summary
        })
    }
}

impl Onset {
    /// The outage's entry, the first time only.
    fn log_once(&mut self) -> Option<LogEntry> {
        let first = !std::mem::replace(&mut self.logged, true);
        first.then(|| entry(&self.event))
    }
}

fn entry(event: &EventKind) -> LogEntry {
    LogEntry::Event(event.clone())
}

/// Whether nothing points to a cause yet, not even an attempt.
fn is_unexplained(event: &EventKind) -> bool {
    matches!(event, EventKind::Unreachable { cause: Cause::Other, attempts, .. } if attempts.is_empty())
}

#[cfg(test)]
#[path = "flap_filter_tests.rs"]
mod tests;
