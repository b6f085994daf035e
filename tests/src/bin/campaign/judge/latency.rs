//! How soon a loss was known: to the agent, to the Collector, and by Knative's own metric.

use std::time::{Duration, SystemTime};

use super::Window;
use crate::{
    figures::Figures,
    reported::{CONNECT_FAILED, DISCONNECTED, Event, REACHABLE, UNREACHABLE},
    truth::{Saw, Seen},
};

/// The latencies of one window; those that begin with the fault exist only for single faults.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    /// Since the kernel's event, or the injection of a fault that stalls the connection.
    pub(crate) agent: Option<Duration>,
    /// Since the activator noticed, or the injection of a fault that stalls the connection.
    pub(crate) collector: Option<Duration>,
    pub(crate) knative: Option<Duration>,
    /// Since the activator was connected again.
    pub(crate) recovery_agent: Option<Duration>,
    pub(crate) recovery_collector: Option<Duration>,
    /// From the kernel's event to the agent's knowledge, by cause.
    pub(crate) known_after: Vec<(String, Duration)>,
    /// From the kernel's event of a loss to the Collector, by cause.
    pub(crate) exported_after: Vec<(String, Duration)>,
}

impl Window {
    pub(super) fn measure(
        &self,
        latencies: &mut Latencies,
        seen: &[Seen],
        events: &[Event],
        exports: &[Figures],
    ) {
        self.measure_causes(latencies, events, exports);
        let Some(fault) = self.single() else {
            return;
        };
        let lost = seen.iter().find(|seen| matches!(seen.what, Saw::Lost(_)));
        let onset = if fault.kind.stalls() {
            Some(fault.at)
        } else {
            lost.map(|lost| lost.at)
        };
        if let Some(onset) = onset {
            let reported = events.iter().find(|event| event.what == UNREACHABLE);
            latencies.agent = reported.map(|event| {
                let from = if fault.kind.stalls() { onset } else { event.at };
                since(from, event.known_at)
            });
            let native = seen.iter().find(|seen| seen.what == Saw::NativeLost);
            latencies.knative = native.map(|native| since(onset, native.at));
            if !self.blind {
                let known = self.before.figures.errors("disconnect");
                let mut exports = exports.iter();
                let first = exports.find(|figures| figures.errors("disconnect") > known);
                let arrived = first.and_then(|figures| figures.arrived);
                latencies.collector = arrived.map(|arrived| since(onset, arrived));
            }
        }
        let established = seen.iter().rev().find(|seen| seen.what == Saw::Established);
        if let Some(back) = established.map(|seen| seen.at) {
            let reported = events.iter().rev().find(|event| event.what == REACHABLE);
            latencies.recovery_agent = reported.map(|event| since(back, event.known_at));
            if !self.blind {
                let mut exports = exports.iter();
                let first = exports.find(|figures| {
                    figures.reachable == Some(true) && figures.arrived.is_some_and(|at| at >= back)
                });
                let arrived = first.and_then(|figures| figures.arrived);
                latencies.recovery_collector = arrived.map(|arrived| since(back, arrived));
            }
        }
    }

    fn measure_causes(&self, latencies: &mut Latencies, events: &[Event], exports: &[Figures]) {
        let mut losses = 0;
        for event in events {
            let (lost, failed) = (event.what == DISCONNECTED, event.what == CONNECT_FAILED);
            losses += u64::from(lost);
            let Some(cause) = event.cause.as_ref().filter(|_| lost || failed) else {
                continue;
            };
            let known = since(event.at, event.known_at);
            latencies.known_after.push((cause.clone(), known));
            if !lost || self.blind {
                continue;
            }
            let counted = self.before.figures.errors("disconnect") + losses;
            let mut exports = exports.iter();
            let first = exports.find(|figures| figures.errors("disconnect") >= counted);
            if let Some(arrived) = first.and_then(|figures| figures.arrived) {
                let after = since(event.at, arrived);
                latencies.exported_after.push((cause.clone(), after));
            }
        }
    }
}

/// Three processes read the same clock at different times, so a difference may be negative.
fn since(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}
