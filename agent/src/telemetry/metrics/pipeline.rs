//! From a snapshot to an export.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_sdk::{
    Resource,
    metrics::{SdkMeterProvider, exporter::PushMetricExporter},
};

use super::{
    durations::Durations,
    export_view::{CurrentView, ExportView},
    instruments,
};
use crate::{snapshot::Snapshot, telemetry::exporter::ExportLog};

/// Collects and exports metrics.
#[derive(Debug)]
pub(crate) struct MetricPipeline {
    provider: SdkMeterProvider,
    durations: Durations,
    view: CurrentView,
    /// Ids of the links whose zeros have arrived. It stays locked during an export, so that exports
    /// do not change each other's view.
    exported: Mutex<HashSet<u64>>,
}

impl MetricPipeline {
    pub(crate) fn new(
        exporter: impl PushMetricExporter,
        resource: Resource,
        exports: &Arc<ExportLog>,
    ) -> Self {
        let view = CurrentView::default();
        let (provider, durations) = instruments::provider(exporter, resource, &view, exports);
        Self {
            provider,
            durations,
            view,
            exported: Mutex::default(),
        }
    }

    /// Where durations are recorded.
    pub(crate) const fn durations(&self) -> &Durations {
        &self.durations
    }

    /// Whether an export of `snapshot` shows only the zeros of a link that has counted something.
    pub(crate) fn withholds(&self, snapshot: &Snapshot) -> bool {
        let exported = self.exported.lock().unwrap_or_else(PoisonError::into_inner);
        let mut links = snapshot.links.iter();
        links.any(|link| !exported.contains(&link.id) && link.counts.total_checks() > 0)
    }

    /// Exports `snapshot`; says whether it arrived.
    ///
    /// A link's zeros count as exported once an export with the link has succeeded. So a link that
    /// is discovered and fails while the Collector is away still begins with its zeros.
    pub(crate) fn export(&self, snapshot: Arc<Snapshot>) -> bool {
        let mut exported = self.exported.lock().unwrap_or_else(PoisonError::into_inner);
        let links: HashSet<u64> = snapshot.links.iter().map(|link| link.id).collect();
        self.view
            .store(Arc::new(ExportView::new(snapshot, &exported)));
        let arrived = self.provider.force_flush().is_ok();
        if arrived {
            *exported = links;
        } else {
            // Ids are never used again, so those of ended links can go.
            exported.retain(|id| links.contains(id));
        }
        arrived
    }

    /// Exports `snapshot` for the last time; says whether it arrived. If there are links whose zeros
    /// have not arrived, it exports twice, so that their counts are shown too.
    pub(crate) fn shutdown(&self, snapshot: Arc<Snapshot>, exports: &ExportLog) -> bool {
        let is_new = {
            let exported = self.exported.lock().unwrap_or_else(PoisonError::into_inner);
            let mut links = snapshot.links.iter();
            links.any(|link| !exported.contains(&link.id))
        };
        if is_new && !self.export(Arc::clone(&snapshot)) {
            // The Collector is away. A second attempt would only use up the time for the logs.
            exports.close();
        }
        let exported = self.exported.lock().unwrap_or_else(PoisonError::into_inner);
        self.view
            .store(Arc::new(ExportView::new(snapshot, &exported)));
        self.provider.shutdown().is_ok()
    }
}
