//! Builds the OTLP exporters: one way to connect and one TLS for both protocols.
//!
//! The SDK's own HTTP clients are not used: its asynchronous ones panic on the thread of its
//! reader, and its blocking one brings a second runtime. tonic's TLS is not used either, so that
//! both protocols trust the same, from the same variables.

mod connector;
mod http_client;
mod reason;
mod watch;

use opentelemetry_otlp::{
    Compression, ExporterBuildError, LogExporter, MetricExporter, RetryPolicy, WithExportConfig,
    WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::metrics::{
    Temporality, data::ResourceMetrics, exporter::PushMetricExporter as _,
};
use tokio::runtime::{Handle, TryCurrentError};
use tonic::{
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};

use super::config::{Destination, Protocol};
use connector::connector;
use http_client::Client;

pub(super) use reason::Reason;
pub(super) use watch::{Outcomes, Watched};

/// Why an exporter could not be built from a valid configuration.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Started where no connection can be carried.
    #[error("telemetry has to be started on a tokio runtime: {0}")]
    NoRuntime(#[from] TryCurrentError),
    /// The SDK refused.
    #[error("OTLP exporter to {endpoint}: {source}")]
    Refused {
        /// Where it should have gone.
        endpoint: String,
        /// Why.
        source: ExporterBuildError,
    },
    /// tonic refused the endpoint.
    #[error("OTLP endpoint {endpoint}: {source}")]
    Endpoint {
        /// Where it should have gone.
        endpoint: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// Builds the exporter of metrics. Connects at the first export, on `runtime`.
pub(super) fn metrics(
    to: &Destination,
    runtime: &Handle,
    reason: &Reason,
) -> Result<MetricExporter, BuildError> {
    let builder = MetricExporter::builder().with_temporality(Temporality::Cumulative);
    let built = match to.protocol {
        Protocol::Grpc => grpc(builder.with_tonic(), to, runtime)?.build(),
        Protocol::Http => http(builder.with_http(), to, runtime, reason).build(),
    };
    built.map_err(|source| refused(to, source))
}

/// Builds the exporter of logs. Connects at the first export, on `runtime`.
pub(super) fn logs(
    to: &Destination,
    runtime: &Handle,
    reason: &Reason,
) -> Result<LogExporter, BuildError> {
    let builder = LogExporter::builder();
    let built = match to.protocol {
        Protocol::Grpc => grpc(builder.with_tonic(), to, runtime)?.build(),
        Protocol::Http => http(builder.with_http(), to, runtime, reason).build(),
    };
    built.map_err(|source| refused(to, source))
}

/// Sends one request that carries nothing: whether `to` is reached, trusted and accepts.
pub(super) async fn probe(to: &Destination) -> Result<(), String> {
    let reason = Reason::default();
    let told = |error: String| match reason.take() {
        Some(reason) => format!("{error}: {reason}"),
        None => error,
    };
    let runtime = Handle::try_current().map_err(|error| error.to_string())?;
    let exporter = metrics(to, &runtime, &reason).map_err(|error| error.to_string())?;
    let export = async { exporter.export(&ResourceMetrics::default()).await };
    match tokio::time::timeout(to.timeout, export).await {
        Ok(result) => result.map_err(|error| told(error.to_string())),
        Err(_) => Err(told(format!(
            "no answer within {} ms",
            to.timeout.as_millis()
        ))),
    }
}

fn refused(to: &Destination, source: ExporterBuildError) -> BuildError {
    BuildError::Refused {
        endpoint: to.endpoint.to_string(),
        source,
    }
}

fn grpc<B>(builder: B, to: &Destination, runtime: &Handle) -> Result<B, BuildError>
where
    B: WithTonicConfig + WithExportConfig,
{
    let headers = MetadataMap::from_headers(to.headers.iter().cloned().collect());
    let builder = builder
        .with_channel(channel(to, runtime)?)
        .with_metadata(headers)
        .with_timeout(to.timeout)
        .with_retry_policy(RetryPolicy::recommended());
    Ok(if to.gzip {
        builder.with_compression(Compression::Gzip)
    } else {
        builder
    })
}

fn http<B>(builder: B, to: &Destination, runtime: &Handle, reason: &Reason) -> B
where
    B: WithHttpConfig + WithExportConfig,
{
    let builder = builder
        .with_http_client(Client::new(to, runtime, reason.clone()))
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_endpoint(to.endpoint.to_string())
        .with_timeout(to.timeout)
        .with_retry_policy(RetryPolicy::recommended());
    if to.gzip {
        builder.with_compression(Compression::Gzip)
    } else {
        builder
    }
}

/// A channel whose connecting is bounded too: tonic's own timeout begins once it is connected.
fn channel(to: &Destination, runtime: &Handle) -> Result<Channel, BuildError> {
    let endpoint = Endpoint::from_shared(to.endpoint.to_string())
        .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
        .map_err(|source| BuildError::Endpoint {
            endpoint: to.endpoint.to_string(),
            source,
        })?;
    // The channel's worker is spawned where it is made.
    let _context = runtime.enter();
    Ok(endpoint
        .timeout(to.timeout)
        .connect_timeout(to.timeout)
        .connect_with_connector_lazy(connector(to)))
}

/// Goes before the transport's own name in each request.
const USER_AGENT: &str = concat!("statlink/", env!("CARGO_PKG_VERSION"));
