//! Counts exports and tells an outage's two edges, never each failure.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    logs::{LogBatch, LogExporter},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
};
use tokio::runtime::Handle;

use super::reason::Reason;

/// How the exports of one signal went.
#[derive(Debug)]
pub(crate) struct Outcomes {
    signal: &'static str,
    endpoint: String,
    begun: Instant,
    ok: AtomicU64,
    failed: AtomicU64,
    /// Nanoseconds after `begun`.
    collected: AtomicU64,
    outage: Mutex<Option<Outage>>,
    closed: AtomicBool,
}

/// A run of failures.
#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    failed: u64,
}

/// What is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// The first failure after a success, or of all.
    Began { error: String },
    /// The first success after failures.
    Ended { lasted: Duration, failed: u64 },
}

impl Outcomes {
    pub(crate) fn new(signal: &'static str, endpoint: String) -> Arc<Self> {
        Arc::new(Self {
            signal,
            endpoint,
            begun: Instant::now(),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            collected: AtomicU64::new(0),
            outage: Mutex::new(None),
            closed: AtomicBool::new(false),
        })
    }

    /// Exports that arrived.
    pub(crate) fn ok(&self) -> u64 {
        self.ok.load(Ordering::Relaxed)
    }

    /// Exports that did not.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Since the last collection, or since the start before the first.
    pub(crate) fn since_collection(&self) -> Duration {
        let collected = Duration::from_nanos(self.collected.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(collected)
    }

    /// A collection has just ended.
    pub(crate) fn collected(&self) {
        let at = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.collected.store(at, Ordering::Relaxed);
    }

    /// From now on exports fail at once, uncounted: the SDK makes a last one when it is stopped or
    /// dropped, wanted or not, and blocks for it.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Counts one export, and says whether it begins or ends an outage.
    pub(super) fn count(&self, now: Instant, result: Result<(), String>) -> Option<Edge> {
        let counter = if result.is_ok() {
            &self.ok
        } else {
            &self.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match (result, outage.as_mut()) {
            (Ok(()), None) => None,
            (Ok(()), Some(&mut Outage { since, failed })) => {
                *outage = None;
                let lasted = now.saturating_duration_since(since);
                Some(Edge::Ended { lasted, failed })
            }
            (Err(_), Some(outage)) => {
                outage.failed += 1;
                None
            }
            (Err(error), None) => {
                *outage = Some(Outage {
                    since: now,
                    failed: 1,
                });
                Some(Edge::Began { error })
            }
        }
    }

    fn announce(&self, edge: &Edge) {
        let Self {
            signal, endpoint, ..
        } = self;
        match edge {
            Edge::Began { error } => tracing::warn!(
                name: "statlink.export.failing",
                signal, endpoint, error,
                "Exports to the Collector fail; counters catch up once it is back. Check that it \
                 listens at the endpoint, and OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL and \
                 _CERTIFICATE."
            ),
            Edge::Ended { lasted, failed } => tracing::info!(
                name: "statlink.export.recovered",
                signal, endpoint, failed,
                outage = lasted.as_secs_f64(),
                "Exports to the Collector work again."
            ),
        }
    }
}

/// An exporter whose every export is bounded in time and counted.
pub(crate) struct Watched<E> {
    exporter: E,
    outcomes: Arc<Outcomes>,
    reason: Reason,
    timeout: Duration,
    runtime: Handle,
}

impl<E> Watched<E> {
    /// `runtime` runs the timer: the SDK polls exports on a thread without one.
    pub(crate) fn new(
        exporter: E,
        outcomes: Arc<Outcomes>,
        reason: Reason,
        timeout: Duration,
        runtime: Handle,
    ) -> Self {
        Self {
            exporter,
            outcomes,
            reason,
            timeout,
            runtime,
        }
    }

    async fn watch(&self, export: impl Future<Output = OTelSdkResult>) -> OTelSdkResult {
        if self.outcomes.closed.load(Ordering::Relaxed) {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        let timeout = self.timeout;
        // Its timer is armed and fired by the runtime itself; once that is gone it ends at once.
        let mut limit = self
            .runtime
            .spawn(async move { tokio::time::sleep(timeout).await });
        let result = tokio::select! {
            biased;
            result = export => result,
            _ = &mut limit => Err(OTelSdkError::Timeout(timeout)),
        };
        limit.abort();
        let told = match &result {
            Ok(()) => Ok(()),
            Err(error) => Err(match self.reason.take() {
                Some(reason) => format!("{error}: {reason}"),
                None => error.to_string(),
            }),
        };
        if let Some(edge) = self.outcomes.count(Instant::now(), told) {
            self.outcomes.announce(&edge);
        }
        result
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Watched<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.outcomes.collected();
        self.watch(self.exporter.export(metrics)).await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

impl<E: LogExporter> LogExporter for Watched<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.watch(self.exporter.export(batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: fmt::Debug> fmt::Debug for Watched<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("exporter", &self.exporter)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Result<(), String> {
        Err("refused".to_owned())
    }

    #[test]
    fn an_outage_is_told_once_at_each_edge() {
        let outcomes = Outcomes::new("metrics", "http://collector:4317".to_owned());
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(outcomes.count(start, Ok(())), None);
        let began = outcomes.count(after(1), failure());
        assert_eq!(
            began,
            Some(Edge::Began {
                error: "refused".to_owned()
            })
        );
        for second in 2..60 {
            assert_eq!(outcomes.count(after(second), failure()), None);
        }
        let ended = outcomes.count(after(61), Ok(()));
        let lasted = Duration::from_secs(60);
        assert_eq!(ended, Some(Edge::Ended { lasted, failed: 59 }));
        assert_eq!(outcomes.count(after(62), Ok(())), None);
        assert_eq!((outcomes.ok(), outcomes.failed()), (3, 59));
        assert!(outcomes.count(after(63), failure()).is_some());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn an_export_that_never_ends_is_cut_off() {
        let outcomes = Outcomes::new("logs", String::new());
        let watched = Watched::new(
            (),
            Arc::clone(&outcomes),
            Reason::default(),
            Duration::from_millis(5),
            Handle::current(),
        );
        let result = watched.watch(std::future::pending()).await;
        assert!(matches!(result, Err(OTelSdkError::Timeout(_))));
        assert_eq!(outcomes.failed(), 1);
    }
}
