//! Snapshots for tests: a test sets only the fields it is about.

use super::{LinkSnapshot, PodCounts, SeriesName};
use crate::link::State;

impl SeriesName {
    /// A series of an activator's pod with this name.
    pub(crate) fn of_activator(pod: &str) -> Self {
        Self {
            peer: "autoscaler".to_owned(),
            namespace: "knative-serving".to_owned(),
            pod: pod.to_owned(),
        }
    }

    /// One of many, with names as long as Kubernetes allows.
    pub(crate) fn longest(n: u32) -> Self {
        Self {
            namespace: "n".repeat(63),
            ..Self::of_activator(&format!("{n:0>253}"))
        }
    }
}

impl LinkSnapshot {
    /// An activator that was just discovered: its link has no state yet, and nothing is counted.
    pub(crate) fn starting(pod: &str) -> Self {
        Self {
            name: SeriesName::of_activator(pod),
            pid: 4711,
            state: State::Starting,
            peer_address: None,
            rtt: None,
            silence: None,
            total: PodCounts::default(),
        }
    }
}
