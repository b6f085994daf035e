//! The instruments. Observable ones read one frozen [`View`], so that the figures of one export
//! always agree; callbacks take no lock and cannot panic.
//!
//! About links, with `peer`, `k8s.namespace.name` and `k8s.pod.name` on every data point:
//! see [`links`]. Durations, by `peer` alone: see [`durations`]. About the agent: see [`agent`].

mod agent;
mod durations;
mod links;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

use arc_swap::ArcSwap;
use opentelemetry::{InstrumentationScope, metrics::MeterProvider};
use opentelemetry_sdk::{
    Resource,
    metrics::{Instrument, PeriodicReader, SdkMeterProvider, Stream, exporter::PushMetricExporter},
};

use super::exporter::Outcomes;
use crate::link::{Cause, CheckKind};

pub(super) use durations::Durations;
pub(super) use view::View;

/// What callbacks read.
pub(super) type Frozen = Arc<ArcSwap<View>>;

/// Links a node is expected to have at most; Kubernetes itself stops at 110 pods a node.
const MOST_LINKS: usize = 128;

/// The reader's own interval is out of reach: the driver says when to export.
const NEVER: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 24 * 3600);

/// Creates every instrument, once, on a provider that exports only when flushed.
pub(super) fn provider(
    exporter: impl PushMetricExporter,
    resource: Resource,
    frozen: &Frozen,
    outcomes: &Arc<Outcomes>,
) -> (SdkMeterProvider, Durations) {
    let reader = PeriodicReader::builder(exporter)
        .with_interval(NEVER)
        .build();
    let provider = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(reader)
        .with_view(roomy_errors)
        .build();
    let scope = InstrumentationScope::builder("statlink").with_version(env!("CARGO_PKG_VERSION"));
    let meter = provider.meter_with_scope(scope.build());
    links::create(&meter, frozen);
    agent::create(&meter, frozen, outcomes);
    let durations = Durations::create(&meter);
    (provider, durations)
}

/// Room for every pair of kind and cause of every link: past the SDK's 2,000 attribute sets, all
/// that is left of a set is that there was one.
fn roomy_errors(instrument: &Instrument) -> Option<Stream> {
    if instrument.name() != links::ERRORS {
        return None;
    }
    Stream::builder()
        .with_cardinality_limit(MOST_LINKS * CheckKind::ALL.len() * Cause::ALL.len())
        .build()
        .ok()
}
