//! The same metrics as a page that a Prometheus scrapes: names and labels as Prometheus' own OTLP receiver
//! makes them (dots become underscores, a unit of `s` is `_seconds`, `By` is `_bytes`, a counter ends in
//! `_total`), the resource as `target_info`.
//!
//! It is a pipeline of its own: what the Collector has been told, the page has not. Who asks for a page is not
//! known, nor whether another asks as well. So a page goes by time, whoever asks: a pod's zeros are on every
//! page of [`ZEROS`], its last counts on every page of [`LAST_COUNTS`], each from the first page that has
//! them. Whoever asks less often may miss them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{
        Temporality,
        data::{AggregatedMetrics, Metric, MetricData, ResourceMetrics, ScopeMetrics},
        exporter::PushMetricExporter,
    },
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, prometheus_text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{pipeline::MetricPipeline, progress::Repeats};
use crate::{
    clock,
    memory::{Memory, Receiver},
    snapshot::Snapshot,
    telemetry::exporter::ExportLog,
    time::Timestamp,
};

/// Makes the page.
#[derive(Debug)]
pub(crate) struct Page {
    pipeline: MetricPipeline,
    /// What the pipeline has collected for the page under way. A mutex of its own keeps pages apart.
    collected: Arc<Mutex<Families>>,
    turn: Mutex<()>,
}

impl Page {
    pub(crate) fn new(resource: Resource, exports: &Arc<ExportLog>) -> Self {
        let collected = Arc::<Mutex<Families>>::default();
        let exporter = ToPage(Arc::clone(&collected));
        Self {
            pipeline: MetricPipeline::repeating(REPEATS, exporter, resource, exports),
            collected,
            turn: Mutex::default(),
        }
    }

    /// Goes on at `now` from what the page of the agent before this one showed, and keeps that up to date.
    pub(crate) fn with_memory(self, memory: Option<Arc<Memory>>, now: Timestamp) -> Self {
        Self {
            pipeline: self.pipeline.with_memory(memory, Receiver::Page, now),
            ..self
        }
    }

    /// Where durations are recorded.
    pub(crate) fn pipeline(&self) -> &MetricPipeline {
        &self.pipeline
    }

    /// The page of `snapshot`, in Prometheus' text format. Blocks until the SDK has collected.
    pub(crate) fn render(&self, snapshot: &Arc<Snapshot>) -> String {
        self.render_at(snapshot, clock::now())
    }

    fn render_at(&self, snapshot: &Arc<Snapshot>, now: Timestamp) -> String {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let collected = || {
            let mut families = self
                .collected
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *families)
        };
        // What a page that was not finished has left.
        drop(collected());
        // It cannot fail: its exporter takes everything.
        self.pipeline.export_at(snapshot, now);
        collected().into_text()
    }
}

/// Takes what the SDK collects, all requests of one export together.
struct ToPage(Arc<Mutex<Families>>);

impl PushMetricExporter for ToPage {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        families.add(metrics);
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

impl fmt::Debug for ToPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToPage").finish_non_exhaustive()
    }
}

/// Sorted by name; two spellings of one label cannot meet, for all names are ours.
type Labels = Vec<(String, String)>;

/// The metrics of one page by name.
#[derive(Debug, Default)]
struct Families(BTreeMap<String, Family>);

#[derive(Debug)]
struct Family {
    help: String,
    unit: Option<Unit>,
    kind: MetricType,
    /// Histograms are in each request of an export: the newest is as good as any.
    samples: BTreeMap<Labels, Sample>,
}

#[derive(Debug)]
enum Sample {
    Count(u64),
    Figure(f64),
    Histogram {
        sum: f64,
        count: u64,
        /// Upper bounds, and how many lie between one and the one before.
        buckets: Vec<(f64, u64)>,
    },
}

impl Families {
    fn add(&mut self, metrics: &ResourceMetrics) {
        let info = self.0.entry("target_info".to_owned());
        let info = info.or_insert_with(|| Family {
            help: "The agent: what its metrics have in common".to_owned(),
            unit: None,
            kind: MetricType::Gauge,
            samples: BTreeMap::new(),
        });
        let resource = metrics.resource().iter();
        let labels = resource.map(|(key, value)| (name(key.as_str()), value.to_string()));
        let mut labels: Labels = labels.collect();
        labels.sort();
        info.samples.insert(labels, Sample::Count(1));
        for metric in metrics.scope_metrics().flat_map(ScopeMetrics::metrics) {
            self.add_metric(metric);
        }
    }

    fn add_metric(&mut self, metric: &Metric) {
        let Some((kind, samples)) = samples(metric.data()) else {
            return;
        };
        let family = self.0.entry(name(metric.name())).or_insert_with(|| Family {
            // The encoder ends it with a full stop of its own.
            help: metric.description().trim_end_matches('.').to_owned(),
            unit: unit(metric.unit()),
            kind,
            samples: BTreeMap::new(),
        });
        family.samples.extend(samples);
    }

    fn into_text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_text::encode(&mut text, &registry);
        text
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, family) in &self.0 {
            let Family {
                help, unit, kind, ..
            } = family;
            let help = format!("{help}.");
            let mut metric = encoder.encode_descriptor(name, &help, unit.as_ref(), *kind)?;
            for (labels, sample) in &family.samples {
                let mut of_labels = metric.encode_family(labels)?;
                match (sample, kind) {
                    (Sample::Count(count), MetricType::Counter) => {
                        of_labels.encode_counter::<NoLabelSet, _, f64>(count, None)?;
                    }
                    (Sample::Count(count), _) => of_labels.encode_gauge(count)?,
                    (Sample::Figure(figure), _) => of_labels.encode_gauge(figure)?,
                    (
                        Sample::Histogram {
                            sum,
                            count,
                            buckets,
                        },
                        _,
                    ) => of_labels.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)?,
                }
            }
        }
        Ok(())
    }
}

/// The samples of one metric. The agent has gauges, counters and histograms with given bounds; what else the
/// SDK knows is nothing.
fn samples(data: &AggregatedMetrics) -> Option<(MetricType, Vec<(Labels, Sample)>)> {
    Some(match data {
        AggregatedMetrics::U64(MetricData::Gauge(gauge)) => {
            let points = gauge.data_points();
            let samples = points.map(|it| (labels(it.attributes()), Sample::Count(it.value())));
            (MetricType::Gauge, samples.collect())
        }
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
            let points = gauge.data_points();
            let samples = points.map(|it| (labels(it.attributes()), Sample::Figure(it.value())));
            (MetricType::Gauge, samples.collect())
        }
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            let points = sum.data_points();
            let samples = points.map(|it| (labels(it.attributes()), Sample::Count(it.value())));
            (MetricType::Counter, samples.collect())
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            let samples = histogram.data_points().map(|point| {
                // The last bucket has no bound of its own.
                let bounds = point.bounds().chain([f64::INFINITY]);
                let sample = Sample::Histogram {
                    sum: point.sum(),
                    count: point.count(),
                    buckets: bounds.zip(point.bucket_counts()).collect(),
                };
                (labels(point.attributes()), sample)
            });
            (MetricType::Histogram, samples.collect())
        }
        AggregatedMetrics::U64(_) | AggregatedMetrics::F64(_) | AggregatedMetrics::I64(_) => {
            return None;
        }
    })
}

fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> Labels {
    let labels = attributes.map(|it| (name(it.key.as_str()), it.value.to_string()));
    let mut labels: Labels = labels.collect();
    labels.sort();
    labels
}

/// As Prometheus spells a name: what is neither a letter nor a digit is an underscore.
fn name(name: &str) -> String {
    let spelled = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(spelled).collect()
}

/// As Prometheus spells the units that the metrics have; one in braces only says what is counted.
fn unit(unit: &str) -> Option<Unit> {
    match unit {
        "s" => Some(Unit::Seconds),
        "By" => Some(Unit::Bytes),
        _ => None,
    }
}

const REPEATS: Repeats = Repeats {
    zeros: ZEROS,
    last: LAST_COUNTS,
};
/// From the first page that has a pod's zeros. A Prometheus that scrapes every 10 s, as the chart has it, gets
/// them though two scrapes fail, or others ask first; and one that alone asks gets them however seldom it
/// does. The pod's counts are late by as much, its state is not.
const ZEROS: Duration = Duration::from_secs(30);
/// From the first page that has a pod's last counts: five scrapes at Prometheus' default interval, a minute.
/// By OTLP Prometheus shows them as long after the last export (`query.lookback-delta`).
const LAST_COUNTS: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
