//! What the agent reports: metrics and logs over OTLP, and log lines on standard output.
//!
//! The caller decides when: [`pace::Pace`] says when an export is due, [`Telemetry::export`] makes
//! one. Nothing here decides whether a link is up.

pub(crate) mod config;
mod delivery;
mod exporter;
pub(crate) mod logs;
mod metrics;
pub(crate) mod pace;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    Resource,
    logs::{BatchConfigBuilder, BatchLogProcessor, SdkLoggerProvider},
    resource::TelemetryResourceDetector,
};
use tokio::runtime::Handle;

use crate::{
    clock,
    link::Cause,
    memory::{Memory, Receiver},
    snapshot::Snapshot,
};
use config::{Config, Destination};
pub(crate) use delivery::Delivery;
use exporter::{BoundedExporter, ExportLog, LastError};
pub(crate) use exporter::{BuildError, ProbeError};
use metrics::{MetricPipeline, Page};

/// The exports of one agent. Clones share everything.
///
/// # Contract
///
/// Start it on the runtime that is to carry its connections, and shut it down before that runtime
/// ends. If it is dropped without a shutdown, the last export is lost. Any thread may call
/// `record_*` and [`Telemetry::export`] at any time; exports that overlap wait for each other. An
/// export whose future is dropped still runs to its end.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry(Arc<Inner>);

/// How long a shutdown may take, the last export included. Kubernetes kills a pod 30 s after SIGTERM
/// by default; 5 s leave room for the rest, and the SDK's own shutdown takes 5 s at most too.
pub(crate) const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Inner {
    metrics: Option<MetricPipeline>,
    page: Option<Page>,
    logs: Option<SdkLoggerProvider>,
    metric_exports: Arc<ExportLog>,
    log_exports: Arc<ExportLog>,
}

impl Telemetry {
    /// Builds the exporters; they connect at the first export. If everything is switched off, it
    /// accepts all calls and sends nothing.
    ///
    /// # Errors
    ///
    /// If called outside of a tokio runtime, or if the SDK refuses the configuration.
    #[cfg(test)]
    pub(crate) fn start(config: &Config) -> Result<Self, BuildError> {
        Self::start_with(config, None)
    }

    /// The same, continuing from a `memory`.
    pub(crate) fn start_with(
        config: &Config,
        memory: Option<Arc<Memory>>,
    ) -> Result<Self, BuildError> {
        let runtime = Handle::try_current()?;
        let attributes = config.resource.iter();
        let resource = Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes(
                attributes.map(|(key, value)| KeyValue::new(key.clone(), value.clone())),
            )
            .build();
        let export_log = |signal, to: Option<&Destination>| {
            let endpoint = to.map(|to| to.endpoint.to_string());
            ExportLog::new(signal, endpoint.unwrap_or_default())
        };
        let metric_exports = export_log("metrics", config.metrics.as_ref());
        let log_exports = export_log("logs", config.logs.as_ref());
        let metrics = match &config.metrics {
            Some(to) => {
                let starts = memory.clone();
                let build = |to: &_, runtime: &_, last_error: &_| {
                    exporter::metrics(to, runtime, last_error, starts)
                };
                let exporter = bounded(build, to, &runtime, &metric_exports)?;
                let resource = resource.clone();
                let pipeline = MetricPipeline::new(exporter, resource, &metric_exports);
                Some(pipeline.with_memory(memory.clone(), Receiver::Collector, clock::now()))
            }
            None => None,
        };
        let page = config.page.then(|| {
            Page::new(resource.clone(), &metric_exports).with_memory(memory, clock::now())
        });
        let logs = match &config.logs {
            Some(to) => Some(log_provider(to, &runtime, resource, &log_exports)?),
            None => None,
        };
        Ok(Self(Arc::new(Inner {
            metrics,
            page,
            logs,
            metric_exports,
            log_exports,
        })))
    }

    /// Whether an export of `snapshot` would say only that the agent lives.
    pub(crate) fn is_idle(&self, snapshot: &Snapshot) -> bool {
        let metrics = self.0.metrics.as_ref();
        metrics.is_none_or(|metrics| metrics.is_idle(snapshot))
    }

    /// Notes that a snapshot was considered and needs no export.
    pub(crate) fn skip(&self) {
        self.0.metric_exports.collected();
    }

    /// Exports `snapshot`. If it does not arrive, the reason is logged once an outage.
    pub(crate) async fn export(&self, snapshot: Arc<Snapshot>) -> Delivery {
        let telemetry = self.clone();
        // The SDK blocks its thread until the export has ended.
        let export = tokio::task::spawn_blocking(move || match &telemetry.0.metrics {
            Some(metrics) => metrics.export(&snapshot),
            None => {
                telemetry.0.metric_exports.collected();
                Delivery {
                    arrived: true,
                    withheld: false,
                }
            }
        });
        export.await.unwrap_or_default()
    }

    /// The page of `snapshot` for a Prometheus that scrapes; `None` unless configured.
    pub(crate) async fn page(&self, snapshot: Arc<Snapshot>) -> Option<String> {
        let telemetry = self.clone();
        // The SDK blocks its thread until it has collected.
        let page = tokio::task::spawn_blocking(move || {
            let page = telemetry.0.page.as_ref();
            page.map(|page| page.render(&snapshot))
        });
        page.await.unwrap_or_default()
    }

    /// Records how long an attempt took: from connect() to upgraded, or to its failure for `cause`.
    pub(crate) fn record_connect(&self, peer: &str, duration: Duration, cause: Option<Cause>) {
        for pipeline in self.pipelines() {
            pipeline.durations().connect(peer, duration, cause);
        }
    }

    /// Records an outage that has ended. `cause` is the cause at its onset.
    pub(crate) fn record_outage(&self, peer: &str, duration: Duration, cause: Cause) {
        for pipeline in self.pipelines() {
            pipeline.durations().outage(peer, duration, cause);
        }
    }

    fn pipelines(&self) -> impl Iterator<Item = &MetricPipeline> {
        let page = self.0.page.as_ref().map(Page::pipeline);
        self.0.metrics.iter().chain(page)
    }

    /// The sink of events besides standard output, for [`logs::init`]; `None` unless configured.
    pub(crate) fn log_provider(&self) -> Option<&SdkLoggerProvider> {
        self.0.logs.as_ref()
    }

    /// Time since metrics were last collected, or since the start; it does not matter whether the
    /// export arrived or was skipped. After a few intervals collection is broken, and the agent is
    /// not live.
    pub(crate) fn since_collection(&self) -> Duration {
        self.0.metric_exports.since_collection()
    }

    /// Exports `snapshot` and the remaining logs, then stops; returns whether all of it arrived.
    /// Takes at most [`SHUTDOWN_LIMIT`]. Later exports do nothing.
    pub(crate) async fn shutdown(&self, snapshot: Arc<Snapshot>) -> bool {
        let (for_metrics, for_logs) = (self.clone(), self.clone());
        let metrics = tokio::task::spawn_blocking(move || {
            let Inner {
                metrics,
                metric_exports,
                ..
            } = &*for_metrics.0;
            metrics
                .as_ref()
                .is_none_or(|metrics| metrics.shutdown(&snapshot, metric_exports))
        });
        let logs = tokio::task::spawn_blocking(move || {
            let logs = for_logs.0.logs.as_ref();
            logs.is_none_or(|logs| logs.shutdown().is_ok())
        });
        let both = async { metrics.await.unwrap_or(false) & logs.await.unwrap_or(false) };
        let arrived = tokio::time::timeout(SHUTDOWN_LIMIT, both)
            .await
            .unwrap_or(false);
        self.0.close();
        arrived
    }
}

/// Sends a request without a metric to the Collector at `to`; the Collector stores nothing.
///
/// # Errors
///
/// If the Collector cannot be reached, one side does not trust the other, or the request is
/// refused.
pub(crate) async fn probe(to: &Destination) -> Result<(), ProbeError> {
    exporter::probe(to).await
}

impl Inner {
    fn close(&self) {
        self.metric_exports.close();
        self.log_exports.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// The exporter that `build` makes for `to`, bounded and counted.
fn bounded<E>(
    build: impl FnOnce(&Destination, &Handle, &LastError) -> Result<E, BuildError>,
    to: &Destination,
    runtime: &Handle,
    log: &Arc<ExportLog>,
) -> Result<BoundedExporter<E>, BuildError> {
    let last_error = LastError::default();
    let exporter = build(to, runtime, &last_error)?;
    Ok(BoundedExporter::new(
        exporter,
        Arc::clone(log),
        last_error,
        to.timeout,
        runtime.clone(),
    ))
}

fn log_provider(
    to: &Destination,
    runtime: &Handle,
    resource: Resource,
    exports: &Arc<ExportLog>,
) -> Result<SdkLoggerProvider, BuildError> {
    let exporter = bounded(exporter::logs, to, runtime, exports)?;
    let limits = BatchConfigBuilder::default()
        .with_max_queue_size(LOG_QUEUE)
        .with_max_export_batch_size(LOG_QUEUE)
        .with_scheduled_delay(LOG_DELAY)
        .build();
    let batches = BatchLogProcessor::builder(exporter)
        .with_batch_config(limits)
        .build();
    Ok(SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_log_processor(batches)
        .build())
}

/// How many log events may wait for the current export. Events of a failed export are dropped, not
/// sent again. If 100 links fail together, they have some 200 events; more than the queue holds are
/// dropped, too. Standard output has them all.
const LOG_QUEUE: usize = 256;
/// How long a log event waits for others: the shortest gap between exports of metrics
/// ([`pace::SHORTEST_GAP`]).
const LOG_DELAY: Duration = pace::SHORTEST_GAP;
