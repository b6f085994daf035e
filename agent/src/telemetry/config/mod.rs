//! The configuration of telemetry: OpenTelemetry's environment variables and a few flags, read once
//! into one validated [`Config`].
//!
//! Nothing here reads the process's environment; the caller passes a lookup. Certificate files are read
//! here, so that a bad one is reported like any other bad value.
//!
//! Of `OTEL_EXPORTER_OTLP_*`, the form with `METRICS_` or `LOGS_` takes precedence. An empty value counts
//! as unset.
//!
//! | variable | accepted | default |
//! |---|---|---|
//! | `OTEL_SDK_DISABLED` | `true`, `false` | `false` |
//! | `OTEL_METRICS_EXPORTER` | `otlp`, `none` | `otlp` |
//! | `OTEL_LOGS_EXPORTER` | `otlp`, `none` | `none` |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | `http://host:port`, `https://host:port`; without a scheme only for gRPC and beside `INSECURE` | `http://localhost:4317`, for http/protobuf `:4318` |
//! | `OTEL_EXPORTER_OTLP_INSECURE` | `true`, `false`: http or https for a gRPC endpoint without a scheme | |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL` | `grpc`, `http/protobuf` | `grpc` |
//! | `OTEL_EXPORTER_OTLP_HEADERS` | `name=value,name=value`, values percent-encoded | |
//! | `OTEL_EXPORTER_OTLP_COMPRESSION` | `gzip`, `none` | `gzip` |
//! | `OTEL_EXPORTER_OTLP_TIMEOUT` | 1 to 3600000 ms; more than 4000 counts as 4000, with a warning | 3000 ms |
//! | `OTEL_EXPORTER_OTLP_CERTIFICATE` | PEM file, trusted instead of the system's authorities | |
//! | `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, `_CLIENT_KEY` | PEM files, both or none | |
//! | `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | `cumulative` | `cumulative` |
//! | `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION` | `explicit_bucket_histogram` | the same |
//! | `OTEL_METRIC_EXPORT_INTERVAL` | 200 to 3600000 ms | 10000 ms |
//! | `OTEL_METRIC_EXPORT_TIMEOUT` | 1 to 3600000 ms; the shorter of this and the exporter's timeout applies | |
//! | `OTEL_RESOURCE_ATTRIBUTES` | `key=value,key=value`, percent-encoded; not `k8s.pod.name` nor `k8s.namespace.name` | |
//! | `OTEL_SERVICE_NAME` | any | `statlink` |

mod destination;
mod env;
mod error;
#[cfg(test)]
mod fuzz;
mod limits;
mod pairs;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub(crate) use destination::{Destination, Protocol};
pub(crate) use env::Var;
pub(crate) use error::{ConfigError, ConfigErrors};
pub(crate) use limits::{DEFAULT_INTERVAL, INTERVALS};
pub(crate) use tls::{Files, Tls};

use env::{Env, Signal};
use error::Errors;

/// Values of flags. Each takes precedence over its variable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// Base endpoint of all signals, as `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: Option<Var>,
    /// Time between exports, as `OTEL_METRIC_EXPORT_INTERVAL`; within [`INTERVALS`].
    pub interval: Option<Duration>,
    /// Whether logs are exported too, as `OTEL_LOGS_EXPORTER=otlp`.
    pub logs: bool,
    /// Whether a page of metrics is served, for a Prometheus that scrapes.
    pub page: bool,
    /// `k8s.node.name`.
    pub node_name: Option<String>,
    /// `k8s.cluster.name`.
    pub cluster_name: Option<String>,
    /// `service.version`.
    pub service_version: String,
    /// The host's name: `service.instance.id` if nothing else names this instance.
    pub hostname: Option<String>,
}

/// A validated configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `None` when metrics are switched off.
    pub metrics: Option<Destination>,
    /// Whether to make a page of metrics for a Prometheus that scrapes; possible without any
    /// export.
    pub page: bool,
    /// `None` unless switched on.
    pub logs: Option<Destination>,
    /// Time between exports while nothing changes.
    pub interval: Duration,
    /// Attributes of the resource.
    pub resource: BTreeMap<String, String>,
    /// Settings that are not honoured, one line each.
    pub warnings: BTreeSet<String>,
}

/// Attributes that name the activator's pod on each data point. The resource must not have them: a
/// Collector with `resource_to_telemetry_conversion` would overwrite the activator's with the agent's.
const RESERVED: [&str; 2] = ["k8s.pod.name", "k8s.namespace.name"];

impl Config {
    /// Reads the variables through `lookup`, and `overrides`.
    ///
    /// # Errors
    ///
    /// Returns every value that is not accepted, not only the first.
    pub(crate) fn read(
        lookup: &dyn Fn(&str) -> Option<String>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigErrors> {
        let env = Env(lookup);
        let mut errors = Errors::default();
        let mut warnings = BTreeSet::new();
        let flag = overrides.endpoint.as_ref();
        let enabled = !errors
            .note(switch(env, "OTEL_SDK_DISABLED"))
            .unwrap_or_default();

        let metrics = exporter(env, "OTEL_METRICS_EXPORTER").map(|e| e.unwrap_or(true));
        let mut metrics = (enabled && errors.note(metrics).unwrap_or_default())
            .then(|| Destination::read(env, Signal::Metrics, flag, &mut errors, &mut warnings))
            .flatten();
        let logs =
            exporter(env, "OTEL_LOGS_EXPORTER").map(|e| overrides.logs || e.unwrap_or(false));
        let logs = (enabled && errors.note(logs).unwrap_or_default())
            .then(|| Destination::read(env, Signal::Logs, flag, &mut errors, &mut warnings))
            .flatten();

        let limit = errors.note(export_timeout(env)).flatten();
        if let (Some(metrics), Some(limit)) = (metrics.as_mut(), limit) {
            metrics.timeout = metrics.timeout.min(limit);
        }
        errors.note(only_cumulative(env));
        errors.note(only_explicit_buckets(env));
        let interval = errors.note(interval(env, overrides));
        let resource = errors.note(resource(env, overrides));
        errors.finish(Self {
            metrics,
            page: overrides.page,
            logs,
            interval: interval.unwrap_or(DEFAULT_INTERVAL),
            resource: resource.unwrap_or_default(),
            warnings,
        })
    }
}

fn switch(env: Env<'_>, name: &str) -> Result<bool, ConfigError> {
    env.get(name).map_or(Ok(false), |var| {
        var.choice(&[("true", true), ("false", false)])
    })
}

/// Whether a signal is exported; `None` if the variable is unset.
fn exporter(env: Env<'_>, name: &str) -> Result<Option<bool>, ConfigError> {
    const CHOICES: [(&str, bool); 2] = [("otlp", true), ("none", false)];
    let Some(var) = env.get(name) else {
        return Ok(None);
    };
    // The specification's list of several exporters: name the part that is the problem.
    let parts: Vec<&str> = var.value.split(',').map(str::trim).collect();
    let is_known = |part: &str| {
        CHOICES
            .iter()
            .any(|(word, _)| word.eq_ignore_ascii_case(part))
    };
    match parts.iter().find(|part| !is_known(part)) {
        Some(part) if parts.len() > 1 && !part.is_empty() => {
            Err(var.expected(format!("otlp or none; {part} is not supported")))
        }
        _ => var.choice(&CHOICES).map(Some),
    }
}

/// The SDK reader's bound on one export. The exporter's own timeout is usually the shorter one.
fn export_timeout(env: Env<'_>) -> Result<Option<Duration>, ConfigError> {
    let var = env.get("OTEL_METRIC_EXPORT_TIMEOUT");
    var.map(|var| var.milliseconds(Duration::from_millis(1)..=*INTERVALS.end()))
        .transpose()
}

/// Rejects delta temporality: only cumulative counters lose nothing while a Collector is away.
fn only_cumulative(env: Env<'_>) -> Result<(), ConfigError> {
    let var = env.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE");
    var.map_or(Ok(()), |var| var.choice(&[("cumulative", ())]))
}

/// Rejects histograms without explicit buckets: the dashboards read explicit buckets.
fn only_explicit_buckets(env: Env<'_>) -> Result<(), ConfigError> {
    let var = env.get("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION");
    var.map_or(Ok(()), |var| {
        var.choice(&[("explicit_bucket_histogram", ())])
    })
}

fn interval(env: Env<'_>, overrides: &Overrides) -> Result<Duration, ConfigError> {
    if let Some(interval) = overrides.interval {
        return Ok(interval);
    }
    let var = env.get("OTEL_METRIC_EXPORT_INTERVAL");
    var.map_or(Ok(DEFAULT_INTERVAL), |var| var.milliseconds(INTERVALS))
}

fn resource(env: Env<'_>, flags: &Overrides) -> Result<BTreeMap<String, String>, ConfigError> {
    let var = env.get("OTEL_RESOURCE_ATTRIBUTES");
    let mut resource = BTreeMap::from([("service.name".to_owned(), "statlink".to_owned())]);
    if let Some(var) = &var {
        resource.extend(pairs::attributes(var)?);
        if let Some(reserved) = RESERVED.into_iter().find(|key| resource.contains_key(*key)) {
            return Err(ConfigError::Reserved {
                variable: var.name.clone(),
                attribute: reserved.to_owned(),
            });
        }
    }
    let mut set = |key: &str, value: &Option<String>| {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            resource.insert(key.to_owned(), value.clone());
        }
    };
    set(
        "service.name",
        &env.get("OTEL_SERVICE_NAME").map(|var| var.value),
    );
    set("service.version", &Some(flags.service_version.clone()));
    set("k8s.node.name", &flags.node_name);
    set("k8s.cluster.name", &flags.cluster_name);
    if !resource.contains_key("service.instance.id") {
        let node = resource.get("k8s.node.name").cloned();
        let instance = node.or_else(|| flags.hostname.clone());
        let instance = instance.unwrap_or_else(|| "unknown".to_owned());
        // Nodes of two clusters may have the same name, and their agents one receiver.
        let instance = match resource.get("k8s.cluster.name") {
            Some(cluster) => format!("{cluster}/{instance}"),
            None => instance,
        };
        resource.insert("service.instance.id".to_owned(), instance);
    }
    Ok(resource)
}
