//! Creates every instrument, once.

use std::{sync::Arc, time::Duration};

use opentelemetry::{InstrumentationScope, metrics::MeterProvider};
use opentelemetry_sdk::{
    Resource,
    metrics::{Instrument, PeriodicReader, SdkMeterProvider, Stream, exporter::PushMetricExporter},
};

use super::{
    agent,
    durations::Durations,
    export_view::{CurrentView, REQUEST_LINKS},
    links,
};
use crate::{
    link::{Cause, CheckKind},
    telemetry::exporter::ExportLog,
};

/// An interval that never ends: the agent's driver says when to export, not the SDK's reader.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A provider that exports only when flushed, with all instruments.
pub(super) fn provider(
    exporter: impl PushMetricExporter,
    resource: Resource,
    view: &CurrentView,
    exports: &Arc<ExportLog>,
) -> (SdkMeterProvider, Durations) {
    let reader = PeriodicReader::builder(exporter)
        .with_interval(NEVER)
        .build();
    let provider = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(reader)
        .with_view(room_for_errors)
        .build();
    let scope = InstrumentationScope::builder("statlink").with_version(env!("CARGO_PKG_VERSION"));
    let meter = provider.meter_with_scope(scope.build());
    links::create(&meter, view);
    agent::create(&meter, view, exports);
    let durations = Durations::create(&meter);
    (provider, durations)
}

/// Sets the cardinality limit of `errors` to every pair of kind and cause of as many pods as one request
/// may have; those of the others are far from it. Beyond the limit, 2,000 attribute sets by default, the SDK merges all further sets into one that says only
/// `otel.metric.overflow`.
fn room_for_errors(instrument: &Instrument) -> Option<Stream> {
    if instrument.name() != links::ERRORS {
        return None;
    }
    Stream::builder()
        .with_cardinality_limit(REQUEST_LINKS * CheckKind::ALL.len() * Cause::ALL.len())
        .build()
        .ok()
}
