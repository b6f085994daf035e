//! Snapshots for tests: a test says only what it is about, and takes the rest from here.

use super::{LinkSnapshot, PodCounts, SeriesName};
use crate::link::State;

impl SeriesName {
    /// An activator's pod of this name.
    pub(crate) fn of_activator(pod: &str) -> Self {
        Self {
            peer: "autoscaler".to_owned(),
            namespace: "knative-serving".to_owned(),
            pod: pod.to_owned(),
        }
    }

    /// One of many whose names are as long as Kubernetes lets them be.
    pub(crate) fn longest(n: u32) -> Self {
        Self {
            namespace: "n".repeat(63),
            ..Self::of_activator(&format!("{n:0>253}"))
        }
    }
}

impl LinkSnapshot {
    /// An activator that was just discovered: nothing is known of its link, and nothing counted.
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
