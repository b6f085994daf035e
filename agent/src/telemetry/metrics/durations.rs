//! Histograms of durations, by `peer` and, for a failure, `error.type`. Never by pod: a histogram's
//! series cannot be withdrawn, and a pod's would outlive the pod.
//!
//! | metric | unit | recorded |
//! |---|---|---|
//! | `kn.activator.stats.conn.connect.duration` | `s` | when an attempt succeeds or fails |
//! | `kn.activator.stats.conn.outage.duration` | `s` | at recovery |

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter},
};

use super::links::cause_attribute;
use crate::link::Cause;

/// The instruments that are recorded and not observed.
#[derive(Clone, Debug)]
pub(crate) struct Durations {
    connect: Histogram<f64>,
    outage: Histogram<f64>,
}

impl Durations {
    pub(super) fn create(meter: &Meter) -> Self {
        let histogram = |name, description, boundaries: &[f64]| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(description)
                .with_boundaries(boundaries.to_vec())
                .build()
        };
        Self {
            connect: histogram(
                "kn.activator.stats.conn.connect.duration",
                "From connect() to the websocket up, or to the failure.",
                &CONNECT,
            ),
            outage: histogram(
                "kn.activator.stats.conn.outage.duration",
                "How long the peer was not reachable from the activator.",
                &OUTAGE,
            ),
        }
    }

    pub(crate) fn connect(&self, peer: &str, duration: Duration, cause: Option<Cause>) {
        record(&self.connect, peer, duration, cause);
    }

    pub(crate) fn outage(&self, peer: &str, duration: Duration, cause: Cause) {
        record(&self.outage, peer, duration, Some(cause));
    }
}

fn record(histogram: &Histogram<f64>, peer: &str, duration: Duration, cause: Option<Cause>) {
    let peer = KeyValue::new("peer", peer.to_owned());
    let attributes: Vec<_> = [peer]
        .into_iter()
        .chain(cause.map(cause_attribute))
        .collect();
    histogram.record(duration.as_secs_f64(), &attributes);
}

/// Bucket bounds in seconds: from a handshake within a node to a client that gives up after several
/// SYNs.
const CONNECT: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0,
];

/// Bucket bounds in seconds: from an immediate reconnect to an hour without an autoscaler.
const OUTAGE: [f64; 14] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
];
