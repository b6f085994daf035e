//! The same metrics as a page for a Prometheus that scrapes. Names and labels are those of
//! Prometheus' own OTLP receiver: dots become underscores, a unit of `s` is `_seconds`, `By` is
//! `_bytes`, a counter ends in `_total`, and the resource is `target_info`.
//!
//! The page has a pipeline of its own, because it has not shown what the Collector was told. The
//! agent does not know who requests a page, or how many do. So a page goes by time: it shows a
//! pod's zeros for [`ZEROS`] and its last counts for [`LAST_COUNTS`], each from the first page with
//! them. A client that asks less often may miss them.

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
    /// What the pipeline has collected for the current page. A separate mutex keeps pages apart.
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

    /// Continues at `now` from the page of the agent before this one, and keeps the memory up to
    /// date.
    pub(crate) fn with_memory(self, memory: Option<Arc<Memory>>, now: Timestamp) -> Self {
        Self {
            pipeline: self.pipeline.with_memory(memory, Receiver::Page, now),
            ..self
        }
    }

    /// The pipeline, to record durations.
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
        // An unfinished page may have left something.
        drop(collected());
        // It cannot fail: its exporter accepts everything.
        self.pipeline.export_at(snapshot, now);
        collected().into_text()
    }
}

/// Takes what the SDK collects: all requests of one export together.
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

/// Sorted by name. No two labels get the same spelling, because all names are ours.
type Labels = Vec<(String, String)>;

/// The metrics of one page by name.
#[derive(Debug, Default)]
struct Families(BTreeMap<String, Family>);

#[derive(Debug)]
struct Family {
    help: String,
    unit: Option<Unit>,
    kind: MetricType,
    /// Each request of an export contains the histograms; the newest is as good as any.
    samples: BTreeMap<Labels, Sample>,
}

#[derive(Debug)]
enum Sample {
    Count(u64),
    Figure(f64),
    Histogram {
        sum: f64,
        count: u64,
        /// Upper bounds, each with the number of values between the previous bound and this one.
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
            // The encoder appends a full stop.
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

/// The samples of one metric. The agent uses gauges, counters and histograms with explicit bounds;
/// other kinds of the SDK give none.
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

/// A name as Prometheus spells it: every character that is neither a letter nor a digit becomes an
/// underscore.
fn name(name: &str) -> String {
    let spelled = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(spelled).collect()
}

/// A unit as Prometheus spells it; a unit in braces only says what is counted, and is left out.
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
/// Counted from the first page with a pod's zeros. A Prometheus that scrapes every 10 s, as the
/// chart configures it, gets them even if two scrapes fail or another client asks first. A
/// Prometheus that is the only client gets them however seldom it scrapes. The pod's counts come
/// that much later; its state does not.
const ZEROS: Duration = Duration::from_secs(30);
/// Counted from the first page with a pod's last counts: five scrapes at Prometheus' default
/// interval of a minute. Over OTLP, Prometheus shows them equally long after the last export
/// (`query.lookback-delta`).
const LAST_COUNTS: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
