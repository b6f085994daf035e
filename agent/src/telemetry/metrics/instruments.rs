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

/// An interval that never ends: the agent decides when to export, not the SDK's reader.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A provider with all instruments, which exports only when flushed.
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

/// Sets the cardinality limit of `errors` to every pair of kind and cause for the most pods of one
/// request; the other instruments need far less. Beyond the limit, by default 2,000 attribute sets,
/// the SDK merges all further sets into one that says only `otel.metric.overflow`.
fn room_for_errors(instrument: &Instrument) -> Option<Stream> {
    if instrument.name() != links::ERRORS {
        return None;
    }
    Stream::builder()
        .with_cardinality_limit(REQUEST_LINKS * CheckKind::ALL.len() * Cause::ALL.len())
        .build()
        .ok()
}
