//! What the agent says to the outside: metrics and logs over OTLP, and lines on stdout.
//!
//! The driver in front of it decides when: [`pace::Pace`] says when an export is due, and
//! [`Telemetry::export`] does one. Nothing here decides whether a link is up.

pub mod config;
mod exporter;
pub mod logs;
mod metrics;
pub mod pace;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    Resource,
    logs::{BatchConfigBuilder, BatchLogProcessor, SdkLoggerProvider},
    metrics::{SdkMeterProvider, exporter::PushMetricExporter},
    resource::TelemetryResourceDetector,
};
use tokio::runtime::Handle;

use crate::{link::Cause, snapshot::Snapshot};
use config::{Config, Destination};
pub use exporter::BuildError;
use exporter::{Outcomes, Reason, Watched};
use metrics::{Durations, Frozen, View};

/// The exports of one agent. Clones share everything.
///
/// # Contract
///
/// Start it on the runtime that is to carry its connections, and shut it down before that runtime
/// goes; dropped without that, the last export is lost. `record_*` may be called from anywhere at any time; [`Telemetry::export`] too, and exports
/// that overlap wait for each other. Cancelling one does no harm: it runs to its end all the same.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<Inner>);

/// How exports of metrics go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Exports that arrived.
    pub exported: u64,
    /// Exports that did not.
    pub failed: u64,
    /// Since metrics were last collected, whether they arrived or not; since the start before the
    /// first time. When it passes a few intervals, collection is broken and the agent is not live.
    pub since_collection: Duration,
}

/// How one export went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Whether the Collector took it.
    pub arrived: bool,
    /// Whether it showed but the zeros of a link that has more to tell: the next export is due.
    pub withheld: bool,
}

/// The time of a shutdown, the last export included.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Inner {
    metrics: Option<Metrics>,
    logs: Option<SdkLoggerProvider>,
    outcomes: Arc<Outcomes>,
    log_outcomes: Arc<Outcomes>,
}

#[derive(Debug)]
struct Metrics {
    provider: SdkMeterProvider,
    durations: Durations,
    frozen: Frozen,
    /// Links whose zeros have arrived. Locked for the length of an export, so that no other
    /// freezes its view meanwhile.
    exported: Mutex<HashSet<u64>>,
}

impl Telemetry {
    /// Builds the exporters; connects at the first export. With everything switched off, it
    /// accepts all calls and sends nothing.
    pub fn start(config: &Config) -> Result<Self, BuildError> {
        let runtime = Handle::try_current()?;
        let attributes = config.resource.iter();
        let resource = Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes(
                attributes.map(|(key, value)| KeyValue::new(key.clone(), value.clone())),
            )
            .build();
        let endpoint = config.metrics.as_ref().map(|to| to.endpoint.to_string());
        let outcomes = Outcomes::new("metrics", endpoint.unwrap_or_default());
        let metrics = config.metrics.as_ref();
        let metrics = metrics.map(|to| Metrics::to(to, &runtime, resource.clone(), &outcomes));
        let endpoint = config.logs.as_ref().map(|to| to.endpoint.to_string());
        let log_outcomes = Outcomes::new("logs", endpoint.unwrap_or_default());
        let logs = config.logs.as_ref();
        let logs = logs.map(|to| logger(to, &runtime, resource, &log_outcomes));
        Ok(Self(Arc::new(Inner {
            metrics: metrics.transpose()?,
            logs: logs.transpose()?,
            outcomes,
            log_outcomes,
        })))
    }

    /// Collects and exports `snapshot`. Why it did not arrive is logged, once an outage.
    pub async fn export(&self, snapshot: Arc<Snapshot>) -> Delivery {
        let telemetry = self.clone();
        // The SDK blocks until the export has ended.
        let export = tokio::task::spawn_blocking(move || match &telemetry.0.metrics {
            Some(metrics) => {
                let withheld = metrics.withholds(&snapshot);
                Delivery {
                    arrived: metrics.export(snapshot),
                    withheld,
                }
            }
            None => {
                telemetry.0.outcomes.collected();
                Delivery {
                    arrived: true,
                    withheld: false,
                }
            }
        });
        export.await.unwrap_or_default()
    }

    /// Records the outcome of an attempt: from connect() to upgraded, or to its failure by
    /// `cause`.
    pub fn record_connect(&self, peer: &str, duration: Duration, cause: Option<Cause>) {
        if let Some(metrics) = &self.0.metrics {
            metrics.durations.connect(peer, duration, cause);
        }
    }

    /// Records an outage that has ended; `cause` is the one at its onset.
    pub fn record_outage(&self, peer: &str, duration: Duration, cause: Cause) {
        if let Some(metrics) = &self.0.metrics {
            metrics.durations.outage(peer, duration, cause);
        }
    }

    /// Where [`logs::init`] sends events besides stdout; `None` unless asked for.
    pub fn log_provider(&self) -> Option<&SdkLoggerProvider> {
        self.0.logs.as_ref()
    }

    /// How exports go, for the agent's own health.
    pub fn stats(&self) -> Stats {
        let outcomes = &self.0.outcomes;
        Stats {
            exported: outcomes.ok(),
            failed: outcomes.failed(),
            since_collection: outcomes.since_collection(),
        }
    }

    /// Exports `snapshot` and what is left of the logs, then stops; says whether all arrived.
    /// Takes at most [`SHUTDOWN_LIMIT`]. Exports after it do nothing.
    pub async fn shutdown(&self, snapshot: Arc<Snapshot>) -> bool {
        let (for_metrics, for_logs) = (self.clone(), self.clone());
        let metrics = tokio::task::spawn_blocking(move || {
            let Inner {
                metrics, outcomes, ..
            } = &*for_metrics.0;
            metrics
                .as_ref()
                .is_none_or(|metrics| metrics.shutdown(snapshot, outcomes))
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

/// Whether the Collector at `to` is reached, trusts and is trusted, and accepts; in one line why
/// not. Nothing is stored there: the request carries no metric.
pub async fn probe(to: &Destination) -> Result<(), String> {
    exporter::probe(to).await
}

impl Inner {
    fn close(&self) {
        self.outcomes.close();
        self.log_outcomes.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Metrics {
    fn to(
        to: &Destination,
        runtime: &Handle,
        resource: Resource,
        outcomes: &Arc<Outcomes>,
    ) -> Result<Self, BuildError> {
        let watched = watched(exporter::metrics, to, runtime, outcomes)?;
        Ok(Self::new(watched, resource, outcomes))
    }

    fn new(
        exporter: impl PushMetricExporter,
        resource: Resource,
        outcomes: &Arc<Outcomes>,
    ) -> Self {
        let frozen = Frozen::default();
        let (provider, durations) = metrics::provider(exporter, resource, &frozen, outcomes);
        Self {
            provider,
            durations,
            frozen,
            exported: Mutex::default(),
        }
    }

    /// Whether an export of `snapshot` shows only the zeros of a link that has counted something.
    fn withholds(&self, snapshot: &Snapshot) -> bool {
        let exported = self.exported.lock().unwrap_or_else(PoisonError::into_inner);
        let mut links = snapshot.links.iter();
        links.any(|link| !exported.contains(&link.id) && link.counts.total_checks() > 0)
    }

    /// A link counts as exported once an export with it has succeeded. So a link that is
    /// discovered and fails while the Collector is away still begins with its zero.
    fn export(&self, snapshot: Arc<Snapshot>) -> bool {
        let mut exported = self.exported.lock().unwrap_or_else(PoisonError::into_inner);
        let links: HashSet<u64> = snapshot.links.iter().map(|link| link.id).collect();
        self.frozen.store(Arc::new(View::new(snapshot, &exported)));
        let arrived = self.provider.force_flush().is_ok();
        if arrived {
            *exported = links;
        } else {
            // Ids are never used again: one that is gone stays gone.
            exported.retain(|id| links.contains(id));
        }
        arrived
    }

    /// Two exports where one alone would show but the zeros of a link.
    fn shutdown(&self, snapshot: Arc<Snapshot>, outcomes: &Outcomes) -> bool {
        let young = {
            let exported = self.exported.lock().unwrap_or_else(PoisonError::into_inner);
            snapshot
                .links
                .iter()
                .any(|link| !exported.contains(&link.id))
        };
        if young && !self.export(Arc::clone(&snapshot)) {
            // The Collector is away; a second try would only use up the time.
            outcomes.close();
        }
        let exported = self.exported.lock().unwrap_or_else(PoisonError::into_inner);
        self.frozen.store(Arc::new(View::new(snapshot, &exported)));
        self.provider.shutdown().is_ok()
    }
}

/// The exporter that `build` makes, with its outcomes watched.
fn watched<E>(
    build: impl FnOnce(&Destination, &Handle, &Reason) -> Result<E, BuildError>,
    to: &Destination,
    runtime: &Handle,
    outcomes: &Arc<Outcomes>,
) -> Result<Watched<E>, BuildError> {
    let reason = Reason::default();
    let exporter = build(to, runtime, &reason)?;
    Ok(Watched::new(
        exporter,
        Arc::clone(outcomes),
        reason,
        to.timeout,
        runtime.clone(),
    ))
}

fn logger(
    to: &Destination,
    runtime: &Handle,
    resource: Resource,
    outcomes: &Arc<Outcomes>,
) -> Result<SdkLoggerProvider, BuildError> {
    let watched = watched(exporter::logs, to, runtime, outcomes)?;
    let limits = BatchConfigBuilder::default()
        .with_max_queue_size(LOG_QUEUE)
        .with_max_export_batch_size(LOG_QUEUE)
        .with_scheduled_delay(LOG_DELAY)
        .build();
    let batches = BatchLogProcessor::builder(watched)
        .with_batch_config(limits)
        .build();
    Ok(SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_log_processor(batches)
        .build())
}

/// Events kept while the Collector is away; more are dropped, and are on stdout all the same.
const LOG_QUEUE: usize = 256;
/// A transition must not wait long for company.
const LOG_DELAY: Duration = Duration::from_millis(200);
