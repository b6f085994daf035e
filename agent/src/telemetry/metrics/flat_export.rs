//! For tests: an export as plain maps.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics,
};

/// One export: values by attributes (`key=value`, sorted by key) by metric name.
pub(super) type FlatExport = BTreeMap<String, BTreeMap<String, f64>>;

pub(super) fn flatten(export: &ResourceMetrics) -> FlatExport {
    let metrics = export.scope_metrics().flat_map(ScopeMetrics::metrics);
    metrics
        .map(|metric| (metric.name().to_owned(), points(metric.data())))
        .collect()
}

fn points(data: &AggregatedMetrics) -> BTreeMap<String, f64> {
    fn key<'a>(attributes: impl Iterator<Item = &'a opentelemetry::KeyValue>) -> String {
        let sorted: BTreeSet<String> = attributes
            .map(|a| format!("{}={}", a.key, a.value))
            .collect();
        sorted.into_iter().collect::<Vec<_>>().join(" ")
    }
    let mut points = BTreeMap::new();
    let mut put = |key: String, value| assert!(points.insert(key, value).is_none(), "a set twice");
    match data {
        AggregatedMetrics::U64(MetricData::Gauge(gauge)) => {
            gauge
                .data_points()
                .for_each(|p| put(key(p.attributes()), p.value() as f64));
        }
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            assert!(sum.is_monotonic());
            sum.data_points()
                .for_each(|p| put(key(p.attributes()), p.value() as f64));
        }
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
            gauge
                .data_points()
                .for_each(|p| put(key(p.attributes()), p.value()));
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            histogram
                .data_points()
                .for_each(|p| put(key(p.attributes()), p.sum()));
        }
        AggregatedMetrics::F64(MetricData::Sum(_))
        | AggregatedMetrics::U64(_)
        | AggregatedMetrics::F64(_)
        | AggregatedMetrics::I64(_) => panic!("unexpected {data:?}"),
    }
    points
}
