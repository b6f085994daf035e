//! From a snapshot to an export.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_sdk::{
    Resource,
    metrics::{SdkMeterProvider, exporter::PushMetricExporter},
};

use super::{
    durations::Durations,
    export_view::{CurrentView, ExportView, OfAgent, requests},
    instruments,
    progress::{Progress, Repeats},
};
use crate::{
    clock,
    memory::{Memory, Receiver},
    snapshot::Snapshot,
    telemetry::{delivery::Delivery, exporter::ExportLog},
    time::Timestamp,
};

/// Collects and exports metrics.
#[derive(Debug)]
pub(crate) struct MetricPipeline {
    provider: SdkMeterProvider,
    durations: Durations,
    view: CurrentView,
    /// Locked during an export, so that exports do not change each other's view.
    progress: Mutex<Progress>,
}

impl MetricPipeline {
    /// A pipeline whose exporter reports what has arrived.
    pub(crate) fn new(
        exporter: impl PushMetricExporter,
        resource: Resource,
        exports: &Arc<ExportLog>,
    ) -> Self {
        Self::repeating(Repeats::default(), exporter, resource, exports)
    }

    pub(super) fn repeating(
        repeats: Repeats,
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
            progress: Mutex::new(Progress::new(repeats)),
        }
    }

    /// Continues at `now` from what the agent before this one told `receiver`, and keeps the memory
    /// up to date.
    pub(crate) fn with_memory(
        self,
        memory: Option<Arc<Memory>>,
        receiver: Receiver,
        now: Timestamp,
    ) -> Self {
        if let Some(memory) = memory {
            self.lock().go_on(memory, receiver, now);
        }
        self
    }

    /// The histograms, to record durations.
    pub(crate) const fn durations(&self) -> &Durations {
        &self.durations
    }

    /// Whether an export of `snapshot` would say only that the agent lives.
    pub(crate) fn is_idle(&self, snapshot: &Snapshot) -> bool {
        self.lock().is_idle(snapshot, clock::now())
    }

    /// Exports `snapshot` in as many requests as needed.
    ///
    /// A pod's zeros count as exported once a request with them has arrived. So a pod that is
    /// discovered and fails while the Collector is away still begins with its zeros. A departed pod
    /// is shown until a request with its last counts has arrived.
    pub(crate) fn export(&self, snapshot: &Arc<Snapshot>) -> Delivery {
        self.export_at(snapshot, clock::now())
    }

    pub(super) fn export_at(&self, snapshot: &Arc<Snapshot>, now: Timestamp) -> Delivery {
        let mut progress = self.lock();
        let links = progress.views(snapshot, now);
        let withheld = links.iter().any(|link| link.owes_counts);
        let of_agent = of_agent(&progress, snapshot, now);
        let mut requests = requests(links, of_agent, snapshot).into_iter();
        // If one fails, stop: the Collector would refuse the others, too, and each may take its
        // whole timeout.
        let arrived = requests.all(|request| self.send(request, &mut progress, now));
        progress.retain(snapshot);
        Delivery { arrived, withheld }
    }

    /// Exports `snapshot` for the last time; returns whether it arrived. If pods have zeros that
    /// have not arrived, it exports twice, so that their counts are shown too.
    pub(crate) fn shutdown(&self, snapshot: &Arc<Snapshot>, exports: &ExportLog) -> bool {
        let now = clock::now();
        let has_new = {
            let links = self.lock().views(snapshot, now);
            links.iter().any(|link| link.is_withheld)
        };
        let mut arrived = !has_new || self.export_at(snapshot, now).arrived;
        let mut progress = self.lock();
        let links = progress.views(snapshot, now);
        let mut requests = requests(links, of_agent(&progress, snapshot, now), snapshot);
        // The SDK itself makes a last export.
        let last = requests.pop().unwrap_or_default();
        let mut requests = requests.into_iter();
        arrived = arrived && requests.all(|request| self.send(request, &mut progress, now));
        if !arrived {
            // The Collector is away. Another attempt would only use up the time for the logs.
            exports.close();
        }
        self.view.store(Arc::new(last));
        self.provider.shutdown().is_ok()
    }

    /// Sends one request; returns whether it arrived.
    fn send(&self, request: ExportView, progress: &mut Progress, now: Timestamp) -> bool {
        let request = Arc::new(request);
        self.view.store(Arc::clone(&request));
        let arrived = self.provider.force_flush().is_ok();
        if arrived {
            progress.arrived(&request.links, now);
        }
        arrived
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_agent(progress: &Progress, snapshot: &Snapshot, now: Timestamp) -> OfAgent {
    if progress.is_idle(snapshot, now) {
        OfAgent::Life
    } else {
        OfAgent::All
    }
}
