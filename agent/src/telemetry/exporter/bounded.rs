//! An exporter that bounds the time of each export and counts it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    logs::{LogBatch, LogExporter},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
};
use tokio::runtime::Handle;

use super::{export_log::ExportLog, last_error::LastError};

/// Bounds and counts the exports of `E`.
pub(crate) struct BoundedExporter<E> {
    exporter: E,
    log: Arc<ExportLog>,
    last_error: LastError,
    timeout: Duration,
    runtime: Handle,
}

impl<E> BoundedExporter<E> {
    /// `runtime` runs the timer: the SDK polls exports on a thread that has none.
    pub(crate) fn new(
        exporter: E,
        log: Arc<ExportLog>,
        last_error: LastError,
        timeout: Duration,
        runtime: Handle,
    ) -> Self {
        Self {
            exporter,
            log,
            last_error,
            timeout,
            runtime,
        }
    }

    async fn bounded(&self, export: impl Future<Output = OTelSdkResult>) -> OTelSdkResult {
        if self.log.is_closed() {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        let timeout = self.timeout;
        // The timer is a task of the runtime. If the runtime is gone, the timer ends at once.
        let mut limit = self
            .runtime
            .spawn(async move { tokio::time::sleep(timeout).await });
        let result = tokio::select! {
            biased;
            result = export => result,
            _ = &mut limit => Err(OTelSdkError::Timeout(timeout)),
        };
        limit.abort();
        let outcome = match &result {
            Ok(()) => Ok(()),
            Err(error) => Err(self.last_error.explain(error.to_string())),
        };
        self.log.count(Instant::now(), outcome);
        result
    }
}

impl<E: PushMetricExporter> PushMetricExporter for BoundedExporter<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.log.collected();
        self.bounded(self.exporter.export(metrics)).await
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

impl<E: LogExporter> LogExporter for BoundedExporter<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.bounded(self.exporter.export(batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: fmt::Debug> fmt::Debug for BoundedExporter<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedExporter")
            .field("exporter", &self.exporter)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter() -> (BoundedExporter<()>, Arc<ExportLog>) {
        let log = ExportLog::new("logs", String::new());
        let exporter = BoundedExporter::new(
            (),
            Arc::clone(&log),
            LastError::default(),
            Duration::from_secs(3),
            Handle::current(),
        );
        (exporter, log)
    }

    #[tokio::test(start_paused = true)]
    async fn an_export_that_never_ends_is_cut_off() {
        let (exporter, log) = exporter();
        let result = exporter.bounded(std::future::pending()).await;
        assert!(matches!(result, Err(OTelSdkError::Timeout(_))));
        assert_eq!(log.failed(), 1);
    }

    #[tokio::test]
    async fn a_closed_one_does_not_even_try() {
        let (exporter, log) = exporter();
        log.close();
        let export = async { panic!("it tried") };
        let result = exporter.bounded(export).await;
        assert!(matches!(result, Err(OTelSdkError::AlreadyShutdown)));
        assert_eq!(log.failed(), 0);
    }
}
